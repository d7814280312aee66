"""Views of a patch: turned in the plane by quarters, with blocks replaced by noise and by another patch."""

from __future__ import annotations

import torch
from torch import Tensor

_SMALLEST_BLOCK, _LARGEST_BLOCK = 0.05, 0.25
_LARGEST_SHARE = 0.3
_QUARTERS = 4


def draw_turns(rows: int, generator: torch.Generator) -> Tensor:
    """Draw quarter turns (rows) from 0 to 3, each as often as the others but for one, whatever the batch."""
    order = torch.randperm(rows, generator=generator)
    first = torch.randint(_QUARTERS, (1,), generator=generator)
    return (order + first) % _QUARTERS


def turn_in_plane(patches: Tensor, turns: Tensor) -> Tensor:
    """Turn each of (N, C, X, Y, Z) about the slice axis by its number of quarter turns; X must equal Y."""
    return torch.stack([patch.rot90(int(turn), (1, 2)) for patch, turn in zip(patches, turns, strict=True)])


def draw_blocks(rows: int, shape: tuple[int, int, int], generator: torch.Generator, *, channels: int = 1) -> Tensor:
    """Draw masks (rows, channels, X, Y, Z) of boxes, until a share from 0 to 0.3 of the voxels, drawn too, is reached.

    A side of a box is 5 to 25% of the patch's; the last box may exceed the share.

    Note:
        Source: Tang et al., CVPR 2022 (Swin UNETR pre-training): block sizes and share.
    """
    masks = torch.zeros(rows, channels, *shape, dtype=torch.bool)
    for mask in masks.flatten(0, 1):
        wanted = float(torch.rand(1, generator=generator)) * _LARGEST_SHARE * mask.numel()
        while int(mask.count_nonzero()) < wanted:
            mask[_box(shape, generator)] = True
    return masks


def _box(shape: tuple[int, int, int], generator: torch.Generator) -> tuple[slice, ...]:
    window = []
    for size in shape:
        share = _SMALLEST_BLOCK + (_LARGEST_BLOCK - _SMALLEST_BLOCK) * float(torch.rand(1, generator=generator))
        side = max(1, round(share * size))
        start = int(torch.randint(size - side + 1, (1,), generator=generator))
        window.append(slice(start, start + side))
    return tuple(window)


def corrupt(
    clean: Tensor, sources: Tensor, generator: torch.Generator, *, shared_blocks: bool = True
) -> tuple[Tensor, Tensor]:
    """Replace blocks of each patch by noise, then other blocks by the voxels of a patch of another source.

    The noise is Gaussian, scaled to the range of the patch. Where all patches have one source, the second replacement
    is left out. `clean` stays as it is.

    Args:
        clean: (N, C, X, Y, Z).
        sources: (N), what each patch was made from.
        generator: On the CPU.
        shared_blocks: The channels of a patch lose the same blocks; otherwise each loses blocks of its own, and can
            be restored from the others.

    Returns:
        The corrupted patches, and where they were changed, (N, 1, X, Y, Z), or (N, C, X, Y, Z) with blocks of its own.
    """
    rows, shape = len(clean), (clean.shape[2], clean.shape[3], clean.shape[4])
    channels = 1 if shared_blocks else clean.shape[1]
    noisy = draw_blocks(rows, shape, generator, channels=channels).to(clean.device)
    noise = torch.randn(clean.shape, generator=generator).to(clean)
    low, high = (bound.reshape(-1, 1, 1, 1, 1) for bound in torch.aminmax(clean.flatten(1), dim=1))
    least, most = (bound.reshape(-1, 1, 1, 1, 1) for bound in torch.aminmax(noise.flatten(1), dim=1))
    scaled = low + (noise - least) / (most - least) * (high - low)
    changed = torch.where(noisy, scaled, clean)
    others = _others(sources, generator)
    if others is None:
        return changed, noisy
    foreign = draw_blocks(rows, shape, generator, channels=channels).to(clean.device)
    return torch.where(foreign, clean[others.to(clean.device)], changed), noisy | foreign


def _others(sources: Tensor, generator: torch.Generator) -> Tensor | None:
    """Return for each row a row of another source, or None if there is one source only."""
    sources = sources.cpu()
    if len(sources.unique()) < 2:
        return None
    chosen = []
    for source in sources:
        candidates = torch.nonzero(sources != source)[:, 0]
        chosen.append(candidates[torch.randint(len(candidates), (1,), generator=generator)])
    return torch.cat(chosen)
