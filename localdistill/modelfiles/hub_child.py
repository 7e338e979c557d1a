"""The process that talks to the hub: `python -m localdistill.modelfiles.hub_child`, started by `hub.py` only. It lists
one revision of a model, fetches the files that are asked for and not here, and tells how far it is; or fetches one file
of a data set. It may use the network, and nothing else of ours does on behalf of models; nothing that it fetches is
opened here."""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from localdistill.safety.children import JsonPipe, serve

TELL_EVERY_S = 0.2
_SMALL = (".json", ".jinja")
_OTHERS = ("tokenizer.model", "LICENSE", "LICENSE.txt", "LICENSE.md")
_INDEX, _WEIGHTS = "model.safetensors.index.json", "model.safetensors"
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")


def main() -> None:
    """Do what the one line that comes asks for."""
    pipe = serve()
    asked = next(iter(pipe))
    try:
        pipe.write(_fetch_file(asked) if asked.get("file") else _fetch(pipe, asked))
    except Exception as error:
        pipe.write(_problem(error))


class _Failed(Exception):
    """What is wrong, as `hub.py` tells it: a kind and its figures."""

    def __init__(self, kind: str, **figures: Any) -> None:
        super().__init__(kind)
        self.told = {"problem": kind, **figures}


def _fetch_file(asked: dict[str, Any]) -> dict[str, Any]:
    """One file of a data set."""
    from huggingface_hub import hf_hub_download

    path = hf_hub_download(asked["repository"], asked["file"], repo_type="dataset", revision=asked["revision"] or None,
                           cache_dir=asked["cache"], endpoint=asked["endpoint"])
    return {"path": path}


def _fetch(pipe: JsonPipe, asked: dict[str, Any]) -> dict[str, Any]:
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.utils import tqdm

    api = HfApi(endpoint=asked["endpoint"])
    info = api.model_info(asked["repository"], revision=asked["revision"] or None, files_metadata=True)
    sizes = {str(one.rfilename): int(one.size or 0) for one in info.siblings or ()}
    place = Path(asked["cache"]) / f"models--{asked['repository'].replace('/', '--')}"
    snapshot = place / "snapshots" / str(info.sha)
    removed = _remove_halves(place)
    settings = {"repo_id": asked["repository"], "revision": str(info.sha), "cache_dir": asked["cache"],
                "endpoint": asked["endpoint"]}

    def fetch(name: str, told: Callable[[int], None] = lambda count: None) -> None:
        class Bar(tqdm):  # type: ignore[misc]
            """Tells of bytes instead of drawing."""

            def __init__(self, *more: Any, **of: Any) -> None:
                super().__init__(*more, **{**of, "disable": True})

            def update(self, n: float | None = 1) -> bool | None:
                """So many more came."""
                told(int(n or 0))
                return None

        damaged = (snapshot / name).exists() and (snapshot / name).stat().st_size != sizes[name]
        hf_hub_download(filename=name, tqdm_class=Bar, force_download=damaged, **settings)

    names = [name for name in sizes if "/" not in name and (name.endswith(_SMALL) or name in _OTHERS)]
    if asked["weights"]:
        names += _weights(sizes, lambda: _shards(fetch, snapshot))
    missing = [name for name in names
               if not (snapshot / name).exists() or (snapshot / name).stat().st_size != sizes[name]]
    total = sum(sizes[name] for name in missing)
    card = info.card_data.to_dict() if info.card_data is not None else {}
    pipe.write({"found": str(info.sha), "size_bytes": sum(sizes[name] for name in names), "missing_bytes": total,
                "licence": card.get("license_name") or card.get("license") or "", "removed_bytes": removed})
    _require_room(place, total)
    progress = _Progress(pipe, total)
    for name in missing:
        fetch(name, progress.add)
        progress.whole(sizes[name])
    _keep_ref(place, asked["revision"], str(info.sha))
    return {"path": str(snapshot), "commit": str(info.sha)}


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
        self._pipe, self._total, self._told_at = pipe, total, 0.0
        self._done = self._before = 0

    def whole(self, size: int) -> None:
        """A file is here, be it that its content was here before."""
        self._before += size
        self.add(self._before - self._done)

    def add(self, count: int) -> None:
        """So many bytes came."""
        self._done += count
        now = time.monotonic()
        if now - self._told_at >= TELL_EVERY_S or self._done >= self._total:
            self._told_at = now
            self._pipe.write({"done": self._done, "total": self._total})


def _remove_halves(place: Path) -> int:
    """Remove what broken downloads left that nobody goes on with; its bytes."""
    count = 0
    for half in (place / "blobs").glob("*.incomplete"):
        lock = place.parent / ".locks" / place.name / f"{half.name.split('.')[0]}.lock"
        if not _is_held(lock):
            count += half.stat().st_size
            half.unlink(missing_ok=True)
    return count


def _is_held(lock: Path) -> bool:
    try:
        with open(lock, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


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
    for kind in ("GatedRepoError", "RevisionNotFoundError", "RepositoryNotFoundError", "RemoteEntryNotFoundError"):
        if kind in kinds:
            return {"problem": kind}
    text = next(iter(str(error).splitlines()), "")
    return {"problem": "network", "text": f"{type(error).__name__}: {text}"[:300]}


if __name__ == "__main__":
    main()
