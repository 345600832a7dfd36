"""Makes the CLIP tokenizer: ``python -m benchmarks.training.tokenizer --out DIR``.

A byte-level BPE whose merges are learnt from the world's captions until each of their words is one token. Any other
text falls apart into pieces, down to single bytes, but always has tokens.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections import Counter
from pathlib import Path

from ..world.spec import caption, sample_scene

START, END = "<|startoftext|>", "<|endoftext|>"
MAX_TOKENS = 77
_END_OF_WORD = "</w>"


def caption_words(scenes: int = 400, variants: int = 12) -> Counter[str]:
    """The words of the captions of the first training scenes, with their counts."""
    counts: Counter[str] = Counter()
    for seed in range(scenes):
        for variant in range(variants):
            counts.update(caption(sample_scene(seed), variant).split())
    return counts


def learn_merges(words: Counter[str]) -> list[tuple[str, str]]:
    """Byte-pair merges, most frequent pair first, until every word of ``words`` is one token."""
    pieces = {word: [*word[:-1], word[-1] + _END_OF_WORD] for word in words}
    merges = []
    while True:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, parts in pieces.items():
            for pair in itertools.pairwise(parts):
                pairs[pair] += words[word]
        if not pairs:
            return merges
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        pieces = {word: _merge(parts, best) for word, parts in pieces.items()}


def write_tokenizer(folder: Path, merges: list[tuple[str, str]]) -> int:
    """Writes the files that ``CLIPTokenizer.from_pretrained`` reads; returns the size of the vocabulary."""
    alphabet = list(_byte_characters().values())
    tokens = alphabet + [character + _END_OF_WORD for character in alphabet]
    tokens += ["".join(pair) for pair in merges]
    tokens += [START, END]
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / "vocab.json", vocabulary)
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges), ""]
    (folder / "merges.txt").write_text("\n".join(lines), encoding="utf-8")
    special = {
        name: {"content": token, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
        for name, token in (("bos_token", START), ("eos_token", END), ("unk_token", END))
    }
    special["pad_token"] = END
    _write_json(folder / "special_tokens_map.json", special)
    _write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "CLIPTokenizer",
            "model_max_length": MAX_TOKENS,
            "do_lower_case": True,
            "errors": "replace",
            "add_prefix_space": False,
            "bos_token": START,
            "eos_token": END,
            "unk_token": END,
            "pad_token": END,
        },
    )
    return len(vocabulary)


def _merge(parts: list[str], pair: tuple[str, str]) -> list[str]:
    merged, i = [], 0
    while i < len(parts):
        if tuple(parts[i : i + 2]) == pair:
            merged.append("".join(pair))
            i += 2
        else:
            merged.append(parts[i])
            i += 1
    return merged


def _byte_characters() -> dict[int, str]:
    """A printable character for each byte, as GPT-2's and CLIP's byte-level BPE choose them."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    characters = {byte: chr(byte) for byte in printable}
    return characters | {byte: chr(256 + n) for n, byte in enumerate(others)}


def _write_json(path: Path, value) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training.tokenizer", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the model; 'tokenizer' is made in it")
    folder = parser.parse_args().out / "tokenizer"
    size = write_tokenizer(folder, learn_merges(caption_words()))
    print(f"{folder}: {size} tokens")


if __name__ == "__main__":
    main()
