"""Where long work is cut into parts, said once: how many rows a query reads, how many questions are claimed, how many
bytes of a file come at a time. No result may depend on them. Each is read where it is used, so that tests can set all
of them to 2 at once."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Borders:
    """The sizes of parts."""

    first_rows: int = 1024
    """Rows of the first window of a sweep; the next ones grow or shrink with the time that one takes."""
    fewest_rows: int = 64
    most_rows: int = 65_536
    span_rows: int = 2048
    """Rows that are decoded together; ids nearer than this are fetched with one query."""
    chunk_ids: int = 4096
    """Ids whose records are handed on together."""
    lookup_ids: int = 50_000
    """Ids that one query looks for."""
    batch_rows: int = 1000
    """Rows that one session writes."""
    batch_bytes: int = 4 << 20
    """Text that one session writes, about."""
    list_rows: int = 50_000
    """Rows of a selection or of a dataset's lineage that one session reads or writes."""
    session_s: float = 0.12
    """After this long a session that reads or writes in pieces closes and a new one goes on: with the piece that is
    under way and the closing, nobody waits longer than 250 ms for one session."""
    near_texts: int = 1000
    """Texts whose MinHashes are made together."""
    judged_prompts: int = 500
    """Prompts that a label's judge is asked about together, gate by gate."""
    page_rows: int = 128
    """Rows of a page of traces."""
    frame_bytes: int = 1 << 18
    """Text of one frame of a closed journal, about: four times as much is 3 % smaller, and damage costs four times as
    much."""
    open_bytes: int = 4 << 20
    """Of the open part of the store's own journal before it is closed: a session has the time for that."""

    file_bytes: int = 1 << 20
    """Of a file of rows, read at once; more where a row is longer."""
    checked_bytes: int = 1 << 20
    """Of a file whose checksum is made, or that is compared with another."""
    header_bytes: int = 1 << 20
    """Of the header of a model file, read at once."""
    pipe_bytes: int = 1 << 16
    """Of what a child process says, read at once."""
    small_file_bytes: int = 1 << 16
    """Of a file of a run, read at once: most are no larger."""
    parquet_rows: int = 256
    """Rows of a Parquet file, read at once; fewer where they are long."""
    parquet_bytes: int = 16 << 20
    """What those rows may take, as they lie in the file's pages."""
    imported_rows: int = 2048
    """Rows of a file that are held until they are stored, as many as the store keeps together (with half of them each
    is compressed twice); fewer where they are long."""
    imported_chars: int = 3 << 20
    """Their text."""
    recent_names: int = 16_384
    """Prompts, and answers, of a file that are remembered, at least, so that copies of them are passed over."""
    group_rows: int = 64
    """Rows of a group in a Parquet file of log-probabilities."""
    quantized_bytes: int = 256 << 20
    """Of the rows of a tensor that are quantized at once."""
    logprob_values: int = 4_000_000
    """Numbers that wait until a file of log-probabilities is written: some 16 MB before compression."""

    block_prompts: int = 16_384
    """Prompts whose answers are looked up at once."""
    held_questions: int = 8192
    """Questions that are held for each teacher; the prompts of the others wait in the store."""
    fetched_prompts: int = 1024
    """Prompts that are fetched from there at once."""
    claimed_first: int = 64
    """Requests claimed in the first session, so that the first is sent soon."""
    claimed_most: int = 1024
    """Requests claimed in one session later on."""
    waiting_replies: int = 256
    """Replies of several teachers that wait to be taken."""
    recalled_answers: int = 256
    """Stored answers that are judged together."""
    looked_up_questions: int = 64
    """Questions of members that are looked up in the store at once."""
    newest_replies: int = 4096
    """Replies to members that are remembered until the store has surely taken them in."""
    judged_ahead: int = 64
    """Traces handed to a pool of graders and not judged yet: enough to keep all children busy, few enough to stop
    soon."""
    judged_together: int = 256
    """Traces that several graders judge together before their next ones."""
    learned_prompts: int = 1024
    """Prompts whose facts are held at once while their traces are laid out."""

    arm_rows: int = 256
    """Rows of an arm's dataset that go out at once."""
    terms_of_parents: int = 10_000
    """Rewritten traces whose parents' terms are looked up at once, while data goes out."""
    prompts_taken_out: int = 2048
    """Prompts that are read at once, while data goes out."""

    served_events: int = 16
    """Events of connections that are served after one another. Smaller groups cost more processor time than they save
    waiting; larger ones let more wait for each other."""
    window_batches: int = 8
    """Requests are pulled this many batches ahead, so that those that begin alike come together."""
    read_tokens: int = 4096
    """Tokens of prompts, padding included, that a student reads at once before it goes on writing."""
    scored_bytes: int = 256 << 20
    """Continuations are scored in pieces whose logits, in float32, take no more than this."""
    output_bytes: int = 256 << 20
    """The same of one call of llama.cpp."""
    call_tokens: int = 2048
    """Tokens of one call of llama.cpp."""
    reference_rows: int = 64
    """Rows whose reference log-probabilities are made at once."""
    answered_rows: int = 16
    """Development items that are answered at once."""
    logit_bytes: int = 64 << 20
    """Of the logits that training holds at once; at least those of `logit_rows`."""
    softmax_bytes: int = 2 << 20
    """Of their powers of e that training holds at once on a CPU; at least those of one position."""
    head_slice_bytes: int = 64 << 20
    """Of an output projection in main memory, brought to the device at once."""
    head_positions: int = 512
    """Positions whose logits over such a slice are held at once."""
    attended_rows: int = 256
    """Queries whose scores attention in training holds at once."""
    mlx_logit_bytes: int = 64 << 20
    """The same on MLX."""
    logit_rows: int = 16
    weight_values: int = 4_000_000
    """Values of a tensor that export holds at once."""
    streamed_tokens: int = 2048
    """Of texts that a model computes together whose weights are read anew for them, padding included."""
    streamed_bytes: int = 64 << 20
    """Of logits of such a model that are held at once; at least those of `logit_rows`."""


BORDERS = Borders()
