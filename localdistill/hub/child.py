"""The process that talks to the hub: `python -m localdistill.hub.child`, started by `client.py` only. It lists one
revision of a model or data set, fetches what is asked for and not here, and tells how far it is. It may use the
network, and nothing else of ours talks to the hub; nothing that it fetches is opened here but lists of shards.

One request after another, by its `act`: "model" (with `weights`), "dataset", "file" (of a data set). It tells
`{"done", "total"}` in bytes, what a model is (`found`), and at the end a line with `is_last`, or one with `problem`:
gated, revision, repository, entry, http (`status`), disk, network (`text`), and for models pickles, gguf, nothing
(`name`), absent, index, room (`needed`, `free`)."""

from __future__ import annotations

import errno
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from localdistill.safety.children import JsonPipe, serve
from localdistill.safety.files import is_locked

TELL_EVERY_S = 0.2
_SMALL = (".json", ".jinja")
_OTHERS = ("tokenizer.model", "LICENSE", "LICENSE.txt", "LICENSE.md")
_INDEX, _WEIGHTS = "model.safetensors.index.json", "model.safetensors"
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")


def main() -> None:
    """Do what each line that comes asks for."""
    pipe = serve()
    for asked in pipe:
        try:
            pipe.write({**_ACTS[asked["act"]](pipe, asked), "is_last": True})
        except Exception as error:
            pipe.write(_problem(error))


_KINDS = {"GatedRepoError": "gated", "RevisionNotFoundError": "revision", "RepositoryNotFoundError": "repository",
          "HFValidationError": "repository", "RemoteEntryNotFoundError": "entry"}
_OF_THE_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EFBIG})


class _Failed(Exception):
    """What is wrong, as `client.py` is told it: a kind and its figures."""

    def __init__(self, kind: str, **figures: Any) -> None:
        super().__init__(kind)
        self.told = {"problem": kind, **figures}


def _model(pipe: JsonPipe, asked: dict[str, Any]) -> dict[str, Any]:
    """A whole model, in one revision."""
    from huggingface_hub import HfApi, hf_hub_download

    api = HfApi(endpoint=asked["endpoint"])
    info = api.model_info(asked["repository"], revision=asked["revision"] or None, files_metadata=True)
    sizes = {str(one.rfilename): int(one.size or 0) for one in info.siblings or ()}
    place = Path(asked["cache"]) / f"models--{asked['repository'].replace('/', '--')}"
    snapshot = place / "snapshots" / str(info.sha)
    removed = _remove_halves(place)
    settings = {"repo_id": asked["repository"], "revision": str(info.sha), "cache_dir": asked["cache"],
                "endpoint": asked["endpoint"]}

    def fetch(name: str, progress: _Progress | None = None) -> None:
        damaged = (snapshot / name).exists() and (snapshot / name).stat().st_size != sizes[name]
        hf_hub_download(filename=name, tqdm_class=_bar(progress), force_download=damaged, **settings)

    names = [name for name in sizes if "/" not in name and (name.endswith(_SMALL) or name in _OTHERS)]
    if asked["weights"]:
        names += _weights(sizes, lambda: _shards(fetch, snapshot))
    missing = [name for name in names
               if not (snapshot / name).exists() or (snapshot / name).stat().st_size != sizes[name]]
    total = sum(sizes[name] for name in missing)
    pipe.write({"found": str(info.sha), "size_bytes": sum(sizes[name] for name in names), "missing_bytes": total,
                "licence": _licence(info), "removed_bytes": removed})
    _require_room(place, total)
    progress = _Progress(pipe, total)
    for name in missing:
        fetch(name, progress)
        progress.whole(sizes[name])
    _keep_ref(place, asked["revision"], str(info.sha))
    return {"path": str(snapshot), "commit": str(info.sha)}


def _dataset(pipe: JsonPipe, asked: dict[str, Any]) -> dict[str, Any]:
    """Which files a data set has, in one revision."""
    from huggingface_hub import HfApi

    info = HfApi(endpoint=asked["endpoint"]).dataset_info(asked["repository"], revision=asked["revision"] or None,
                                                          files_metadata=True)
    return {"commit": str(info.sha or ""), "licence": _licence(info),
            "files": {str(one.rfilename): one.size for one in info.siblings or ()}}


def _file(pipe: JsonPipe, asked: dict[str, Any]) -> dict[str, Any]:
    """One file of a data set."""
    from huggingface_hub import hf_hub_download

    progress = _Progress(pipe, asked["size_bytes"])
    return {"path": hf_hub_download(
        asked["repository"], asked["name"], repo_type="dataset", revision=asked["revision"] or None,
        cache_dir=asked["cache"], endpoint=asked["endpoint"], tqdm_class=_bar(progress))}


_ACTS = {"model": _model, "dataset": _dataset, "file": _file}


def _licence(info: Any) -> str:
    """As the card says it; empty where it does not."""
    card = info.card_data.to_dict() if info.card_data is not None else {}
    stated = card.get("license_name") or card.get("license") or ""
    return stated if isinstance(stated, str) else ", ".join(map(str, stated))


def _bar(progress: _Progress | None) -> type:
    """What the library takes for a progress bar, which tells of bytes instead of drawing."""
    from huggingface_hub.utils import tqdm

    class Bar(tqdm):  # type: ignore[misc]
        """Tells of bytes."""

        def __init__(self, *more: Any, **of: Any) -> None:
            super().__init__(*more, **{**of, "disable": True})
            if progress is not None:
                progress.sized(int(of.get("total") or 0))

        def update(self, n: float | None = 1) -> bool | None:
            """So many more came."""
            if progress is not None:
                progress.add(int(n or 0))
            return None

    return Bar


def _weights(sizes: dict[str, int], shards: Callable[[], list[str]]) -> list[str]:
    """Names of the files that hold the weights. _Failed where none of them is a safetensors file, or one is missing."""
    if _INDEX in sizes:
        names = shards()
        if absent := [name for name in names if name not in sizes]:
            raise _Failed("absent", name=absent[0])
        return names
    if _WEIGHTS in sizes:
        return [_WEIGHTS]
    pickles = sorted(name for name in sizes if name.endswith(_PICKLES))
    gguf = sorted(name for name in sizes if name.endswith(".gguf"))
    raise _Failed("pickles", name=pickles[0]) if pickles else _Failed("gguf", name=gguf[0]) if gguf else _Failed(
        "nothing")


def _shards(fetch: Callable[[str], None], snapshot: Path) -> list[str]:
    fetch(_INDEX)
    if (snapshot / _INDEX).stat().st_size > 64 << 20:
        raise _Failed("index")
    told = json.loads((snapshot / _INDEX).read_text())
    names = told.get("weight_map") if isinstance(told, dict) else None
    found = sorted(set(names.values())) if isinstance(names, dict) else []
    if not found or not all(isinstance(name, str) and name.endswith(".safetensors") and "/" not in name
                            for name in found):
        raise _Failed("index")
    return found


class _Progress:
    """How much of it all is here, told now and then."""

    def __init__(self, pipe: JsonPipe, total: int) -> None:
        """total: 0 where nobody knows it before the first byte comes."""
        self._pipe, self._total, self._told_at = pipe, total, 0.0
        self._done = self._before = 0

    def sized(self, total: int) -> None:
        """The hub says how much there is of what comes now: the whole, where that is not known."""
        self._total = self._total or total

    def whole(self, size: int) -> None:
        """A file is here, be it that its content was here before."""
        self._before += size
        self.add(self._before - self._done)

    def add(self, count: int) -> None:
        """So many bytes came."""
        self._done += count
        now = time.monotonic()
        if now - self._told_at >= TELL_EVERY_S or 0 < self._total <= self._done:
            self._told_at = now
            self._pipe.write({"done": self._done, "total": self._total})


def _remove_halves(place: Path) -> int:
    """Remove what broken downloads left that nobody goes on with; its bytes."""
    count = 0
    for half in (place / "blobs").glob("*.incomplete"):
        lock = place.parent / ".locks" / place.name / f"{half.name.split('.')[0]}.lock"
        if not is_locked(lock):
            count += half.stat().st_size
            half.unlink(missing_ok=True)
    return count


def _keep_ref(place: Path, revision: str, commit: str) -> None:
    """Let a branch or tag mean this commit here too: files were fetched by their commit."""
    ref = place / "refs" / (revision or "main")
    if revision != commit and ".." not in ref.parts:
        ref.parent.mkdir(parents=True, exist_ok=True)
        ref.write_text(commit)


def _require_room(place: Path, needed: int) -> None:
    from localdistill.core.disk import file_system_of

    free = file_system_of(place).free_bytes
    if needed > free:
        raise _Failed("room", needed=needed, free=free)


def _problem(error: Exception) -> dict[str, Any]:
    if isinstance(error, _Failed):
        return error.told
    kinds = [kind.__name__ for kind in type(error).__mro__]
    text = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"[:300]
    for kind, name in _KINDS.items():
        if kind in kinds:
            return {"problem": name, "text": text}
    status = getattr(getattr(error, "response", None), "status_code", None)
    if "HfHubHTTPError" in kinds and status is not None:
        return {"problem": "http", "status": status, "text": text}
    if isinstance(error, OSError) and type(error).__module__ == "builtins" and error.errno in _OF_THE_DISK:
        return {"problem": "disk", "text": error.strerror or text}
    return {"problem": "network", "text": text}


if __name__ == "__main__":
    main()
