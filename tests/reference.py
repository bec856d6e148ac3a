"""Slow, obvious twins of what the package does fast."""

import itertools

import torch
from torch.func import functional_call

MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15


# --- draws: SplitMix64 on Python integers ----------------------------------------------------------------------------


def splitmix64(word: int) -> int:
    """The finaliser of Steele, Lea and Flood (OOPSLA 2014), as published."""
    word &= MASK
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & MASK
    return word ^ (word >> 31)


def signed(word: int) -> int:
    return word - (1 << 64) if word >> 63 else word


def draw_key(seed: int, epoch: int, index: int, view: int = 0) -> int:
    word = splitmix64(seed + GOLDEN)
    word = splitmix64(word ^ splitmix64(epoch + 2 * GOLDEN))
    word = splitmix64(word ^ splitmix64(view + 3 * GOLDEN))
    return splitmix64(splitmix64(word + index * GOLDEN) ^ word)


def draw_fold(key: int, word: int) -> int:
    return splitmix64(key ^ splitmix64(word + GOLDEN))


def draw_bits(key: int, slot: int) -> int:
    return splitmix64(key + (slot + 1) * GOLDEN)


# --- Target: which rows an operation keeps, on lists of row numbers --------------------------------------------------


def split(rows: list, size: int) -> list[list]:
    return [rows[start : start + size] for start in range(0, len(rows), size)] or [rows]


def chunk(rows: list, chunks: int) -> list[list]:
    return split(rows, -(-len(rows) // chunks)) if rows else [rows] * chunks


def repeat(rows: list, repeats: int | list[int]) -> list:
    counts = [repeats] * len(rows) if isinstance(repeats, int) else repeats
    return [row for row, count in zip(rows, counts, strict=True) for _ in range(count)]


# --- Loss: one sample at a time --------------------------------------------------------------------------------------


def weighted_loss(one, normaliser, output, target, weight):
    """Σ w_i ℓ_i / Σ c_i with ℓ_i = one(output[i:i+1], target[i:i+1]), the sum over the sample's elements."""
    total = torch.zeros((), dtype=output.dtype)
    count = torch.zeros((), dtype=output.dtype)
    for i in range(len(output)):
        if weight[i] != 0:
            total = total + weight[i].to(output.dtype) * one(output[i : i + 1], target[i : i + 1])
        count = count + normaliser(output[i : i + 1], target[i : i + 1])
    return total / count


# --- gradients: one reverse pass per sample and class -----------------------------------------------------------------


def as_classes(logits):
    """Logits (B, K); a single logit z as (0, z)."""
    logits = logits[:, None] if logits.ndim == 1 else logits
    return logits if logits.shape[1] > 1 else torch.cat([torch.zeros_like(logits), logits], 1)


def trainable(model):
    return {name: part for name, part in model.named_parameters() if part.requires_grad}


def log_probabilities(model, inputs, read=lambda output: output):
    """log p of the batch from one ordinary call, with its graph; buffers and generators are put back by hand."""
    buffers = {name: part.clone() for name, part in model.named_buffers()}
    state = torch.get_rng_state()
    output = functional_call(model, buffers, (inputs,))
    torch.set_rng_state(state)
    return as_classes(read(output)).log_softmax(1)


def benefit(model, inputs, direction, read=lambda output: output):
    """(log p, B) by n·K separate reverse passes."""
    parameters = trainable(model)
    log_p = log_probabilities(model, inputs, read)
    made = torch.zeros_like(log_p)
    for i, k in itertools.product(range(log_p.shape[0]), range(log_p.shape[1])):
        gradients = torch.autograd.grad(log_p[i, k], list(parameters.values()), retain_graph=True, allow_unused=True)
        made[i, k] = -sum(
            (gradient * direction[name]).sum()
            for name, gradient in zip(parameters, gradients, strict=True)
            if gradient is not None and name in direction
        )
    return log_p.detach(), made.detach()


def direction(model, inputs, soft, read=lambda output: output):
    """∇_w of the mean cross entropy with distributions ``soft``."""
    parameters = trainable(model)
    loss = -(soft * log_probabilities(model, inputs, read)).sum(1).mean()
    gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    return {
        name: torch.zeros_like(part) if gradient is None else gradient
        for (name, part), gradient in zip(parameters.items(), gradients, strict=True)
    }


def linear_programme(benefits):
    """argmax over w ∈ {0, 1}, ỹ a vertex of the simplex, of w Σ_k ỹ_k B_k, row by row: (weights, labels, optimum)."""
    weights, labels, optimum = [], [], []
    for row in benefits.tolist():
        best = max(itertools.product((1.0, 0.0), range(len(row))), key=lambda choice: choice[0] * row[choice[1]])
        weights.append(best[0])
        labels.append(best[1])
        optimum.append(best[0] * row[best[1]])
    return torch.tensor(weights), torch.tensor(labels), torch.tensor(optimum)


# --- rows of features ------------------------------------------------------------------------------------------------


def mixed_rows(rows, partner, share, pasted):
    """Each row blended with its partner's by its share, or with the pasted features (steps of time) taken from it."""
    made = rows.clone()
    for row in range(len(rows)):
        other = rows[partner[row]]
        if pasted is None:
            made[row] = share[row].double() * rows[row] + (1 - share[row].double()) * other
            continue
        for place in range(rows.shape[1]):
            if pasted[row, place]:
                made[row, place] = other[place]
    return made


# --- weights by the gradient of one sample at a time -----------------------------------------------------------------


def gains(model, criterion, inputs, target, held_inputs, held_target, part=None):
    """(losses, ⟨∇ℓ_i, ∇L_val⟩), ℓ_i the criterion's value for sample i alone, by one reverse pass a sample.

    part: the layer whose parameters alone count, None for all.
    """
    parameters = list((model if part is None else part).parameters())
    g = torch.autograd.grad(criterion(model(held_inputs), held_target), parameters)
    losses, made = [], []
    for row in range(len(inputs)):
        loss = criterion(model(inputs[row : row + 1]), target[row : row + 1])
        own = torch.autograd.grad(loss, parameters)
        losses.append(loss.detach())
        made.append(sum((a * b).sum() for a, b in zip(own, g, strict=True)))
    return torch.stack(losses), torch.stack(made)


def resizing_weights(old, new, interpolation="bilinear"):
    """(new, old) float64: the shares of ``old`` pixels in each of ``new``, of a filter that is as wide as one of these.

    Pillow's: a pixel whose middle is further away than the filter reaches, counted in whole pixels, has no share.
    """

    def share(x):
        x = abs(x)
        if interpolation == "bilinear":
            return max(0.0, 1.0 - x)
        if x < 1.0:
            return 1.5 * x**3 - 2.5 * x**2 + 1.0
        return -0.5 * x**3 + 2.5 * x**2 - 4.0 * x + 2.0 if x < 2.0 else 0.0

    scale = old / new
    reach = max(scale, 1.0)
    made = torch.zeros(new, old, dtype=torch.float64)
    for place in range(new):
        for pixel in range(old):
            made[place, pixel] = share((pixel + 0.5 - (place + 0.5) * scale) / reach)
        made[place] /= made[place].sum()
    return made


def antialiased(image, size):
    """An image (C, H, W) resized to (height, width): each pixel the mean of what a triangle over it covers, float64."""
    down, across = resizing_weights(image.shape[1], size[0]), resizing_weights(image.shape[2], size[1])
    return down @ image.double() @ across.T
