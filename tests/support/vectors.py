"""Write tests/wire/vectors/*.hex anew from tests/support/examples.py: what each message looks like on the bus.

    python tests/support/vectors.py --rewrite

Without --rewrite it only names the files that would change. A changed vector is a changed protocol: read the diff, and
if an old peer could not read the new octets, raise PROTOCOL_VERSION.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
VECTORS = ROOT / "tests" / "wire" / "vectors"


def as_json(value: Any) -> Any:
    """Plain values with octets as "0x…" text, for a reader's eyes."""
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, dict):
        return {key: as_json(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(inner) for inner in value]
    return value


def vector_text(name: str, says: str, frames: list[bytes], body: Any) -> str:
    """One file: what it is, each frame of the multipart message in hex, and the decoded body (or header)."""
    lines = [f"# {name}: {says}"]
    lines += [f"frame {frame.hex()}" for frame in frames]
    lines.append("json " + json.dumps(as_json(body), ensure_ascii=False))
    return "\n".join(lines) + "\n"


def all_vectors() -> dict[str, str]:
    """File name → text, made by our own encoder and read by the independent msgpack library."""
    import msgpack
    from support import examples

    from dfmq.wire import codec, envelope, topics

    texts = {}
    for name, message in examples.EXAMPLES.items():
        frames = envelope.wrap([codec.encode(message)])
        if name == "notice":
            frames.insert(0, topics.ALL)
        elif name == "hint":
            frames.insert(0, topics.of_task(examples.TASK))
        says = (type(message).__doc__ or "").split(". ")[0].rstrip(".").replace("\n   ", "")
        texts[f"{name}.hex"] = vector_text(name, says, frames, msgpack.unpackb(frames[-1]))
    header = codec.encode_chunk_header(*examples.CHUNK)
    says = "header [version, lease, piece, chunk], then the payload in a frame of its own"
    texts["chunk.hex"] = vector_text("chunk", says, [header, examples.PAYLOAD], msgpack.unpackb(header))
    return texts


def read_vector(name: str) -> tuple[list[bytes], Any]:
    """(frames, decoded body) of a vector file."""
    frames, body = [], None
    for line in (VECTORS / f"{name}.hex").read_text().splitlines():
        word, _, rest = line.partition(" ")
        if word == "frame":
            frames.append(bytes.fromhex(rest))
        elif word == "json":
            body = json.loads(rest)
    return frames, body


def main(arguments: list[str]) -> int:
    texts = all_vectors()
    stale = [name for name, text in texts.items() if _on_disk(name) != text]
    stray = [path.name for path in VECTORS.glob("*.hex") if path.name not in texts]
    for name in stale + stray:
        print(name)
    if "--rewrite" in arguments:
        VECTORS.mkdir(exist_ok=True)
        for name in stale:
            (VECTORS / name).write_text(texts[name])
        for name in stray:
            (VECTORS / name).unlink()
        return 0
    return 1 if stale or stray else 0


def _on_disk(name: str) -> str | None:
    path = VECTORS / name
    return path.read_text() if path.exists() else None


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    sys.exit(main(sys.argv[1:]))
