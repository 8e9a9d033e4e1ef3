"""Small texts that would be large documents."""

from __future__ import annotations


def alias_bomb(levels: int = 7, width: int = 9) -> str:
    """A YAML object whose members `a0`, `a1` … are each `width` times the one before."""
    lines = [f"a0: &a0 [{', '.join(['0'] * width)}]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * width)}]" for i in range(1, levels)]
    return "\n".join(lines)
