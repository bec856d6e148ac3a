"""Slow, obvious twins of what mixes dense samples: pixel by pixel and object by object."""

import torch

from smartaug import draws


def mosaic_canvas(images, row, meet, corner):
    """The canvas (C, 2H, 2W) of one sample, and which of the batch each pixel is from, −1: none.

    row: the four samples; meet: y, x of the point where they meet; corner: where the first lies, 0 to 3 row by row.
    """
    channels, height, width = images.shape[1:]
    canvas = torch.full((channels, 2 * height, 2 * width), 114, dtype=images.dtype)
    owner = torch.full((2 * height, 2 * width), -1)
    for number, source in enumerate(row):
        place = (corner + number) % 4
        top = meet[0] if place >= 2 else meet[0] - height
        left = meet[1] if place % 2 else meet[1] - width
        for y in range(height):
            for x in range(width):
                inside = 0 <= top + y < 2 * height and 0 <= left + x < 2 * width
                if inside:
                    canvas[:, top + y, left + x] = images[source, :, y, x]
                    owner[top + y, left + x] = source
    return canvas, owner


def mosaic_draws(step, shape, key):
    """What `Mosaic` draws, sample by sample: partners, the point, the corner and the enlargement."""
    order = draws.bits(draws.fold(key, 0), 1)[:, 0].tolist()
    ranked = sorted(range(shape[0]), key=lambda number: order[number])
    drawn = draws.uniform(draws.fold(key, 2), (3,), dtype=torch.float64).tolist()
    corner = draws.integers(draws.fold(key, 2), 4, start=3).tolist()
    made = []
    for number in range(shape[0]):
        at = ranked.index(number)
        row = [ranked[(at + step_) % len(ranked)] for step_ in range(4)]
        low, high = step.centre
        meet = [round((low + (high - low) * drawn[number][axis]) * shape[2 + axis]) for axis in (0, 1)]
        low, high = step.scale
        made.append((row, meet, corner[number], low + (high - low) * drawn[number][2]))
    return made


def mosaic(step, images, key):
    """`Mosaic(interpolation="nearest")` of the images' size, looked up pixel by pixel on the canvas; whose each is."""
    result, owners = torch.empty_like(images), torch.empty(len(images), *images.shape[2:], dtype=torch.int64)
    height, width = images.shape[2:]
    for number, (row, meet, corner, scale) in enumerate(mosaic_draws(step, images.shape, key)):
        canvas, owner = mosaic_canvas(images, row, meet, corner)
        starts = [int((side - side / (2 * scale)) // 1) for side in (height, width)]
        for y in range(height):
            for x in range(width):
                at = int((starts[0] + (y + 0.5) / scale) // 1), int((starts[1] + (x + 0.5) / scale) // 1)
                on = 0 <= at[0] < 2 * height and 0 <= at[1] < 2 * width
                result[number, :, y, x] = canvas[:, at[0], at[1]] if on else 114
                owners[number, y, x] = owner[at] if on else -1
    return result, owners


def pictured(apply, masks, row, shape):
    """Where every object is seen behind a plan, (M, B, H, W) bool: each painted alone into an empty batch.

    apply: (images of one channel) -> images; masks (M, H, W) bool; row (M,); shape of the images (B, C, H, W).
    """
    seen = []
    for mask, number in zip(masks, row.tolist(), strict=True):
        batch = torch.zeros(shape[0], 1, *shape[2:], dtype=torch.uint8)
        batch[number, 0] = mask.to(torch.uint8)
        seen.append(apply(batch)[:, 0] > 0)
    return torch.stack(seen)


def box_around(mask):
    """left, top, right, bottom around a mask's pixels."""
    ys, xs = mask.nonzero(as_tuple=True)
    return [int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1]


def copy_paste(images, masks, row, partner, key, share, most):
    """Images, and the (object, sample, mask) that are left: first each sample's own, then what was pasted."""
    images, given, masks = images.clone(), images, [mask.clone() for mask in masks]
    own = [(number, int(at), masks[number]) for number, at in enumerate(row)]
    pasted = []
    for sample, other in enumerate(partner.tolist()):
        theirs = [number for number, at in enumerate(row.tolist()) if at == other]
        if other == sample or not theirs:
            continue
        drawn = draws.uniform(key[sample : sample + 1], (len(theirs),))[0].tolist()
        taken = [(u, place) for place, u in enumerate(drawn) if u < share and masks[theirs[place]].any()]
        taken = sorted(sorted(taken)[:most], key=lambda pair: pair[1])
        for _, place in taken:
            pasted.append((theirs[place], sample, masks[theirs[place]].clone()))
    for number, sample, mask in pasted:
        images[sample][:, mask] = given[int(row[number])][:, mask]
    left = []
    for number, sample, mask in own:
        for _, onto, over in pasted:
            if onto == sample:
                mask = mask & ~over
        left.append((number, sample, mask))
    return images, left + pasted
