"""Slow, obvious twins of what moves with an image: one point, one pixel, one box at a time."""

import math

import numpy as np

ONE = 1 << 32  # coordinates of warps are integers in units of 2**-32 pixels


def steps(plan, row):
    """(3×3 map from output to input, size before, segment) of each step that moves a sample, in pixel indices."""
    height, width = plan.shape[2:]
    for segment in plan.segments:
        if hasattr(segment, "matrix"):
            moves = segment.active is None or bool(segment.active[row])
            matrix = np.eye(3)
            if moves:
                matrix[: segment.matrix.shape[1]] = segment.matrix[row].numpy()
            yield matrix, (height, width), segment
        height, width = segment.output_size(height, width)


def sent(matrix, x, y):
    """Where a map sends (x, y)."""
    u, v, w = matrix @ np.array([x, y, 1.0])
    return np.array([u / w, v / w])


def back(matrix, x, y):
    """Where continuous pixels (x, y) of the input are in the output."""
    return sent(np.linalg.inv(matrix), x - 0.5, y - 0.5) + 0.5


def point(plan, row, x, y):
    """Where continuous pixels (x, y) of a sample are afterwards."""
    for matrix, _, _ in steps(plan, row):
        x, y = back(matrix, x, y)
    return x, y


def seen(plan, row, x, y):
    """Whether a point lies in the image after each step."""
    for matrix, _, segment in steps(plan, row):
        x, y = back(matrix, x, y)
        if not (0 <= x < segment.size[1] and 0 <= y < segment.size[0]):
            return False
    return True


def box(plan, row, left, top, right, bottom):
    """The box after a plan, and the share of its area that is left: cut off after each step, by its hull."""
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    share = 1.0
    for matrix, _, segment in steps(plan, row):
        corners = [tuple(back(matrix, x, y)) for x, y in corners]
        xs, ys = zip(*corners, strict=True)
        whole = min(xs), min(ys), max(xs), max(ys)
        limits = (segment.size[1], segment.size[0]) * 2
        part = tuple(min(max(value, 0.0), limit) for value, limit in zip(whole, limits, strict=True))
        if part != whole:
            before, after = area(whole), area(part)
            share *= after / before if before else 0.0
            corners = [(part[0], part[1]), (part[2], part[1]), (part[2], part[3]), (part[0], part[3])]
    xs, ys = zip(*corners, strict=True)
    return (min(xs), min(ys), max(xs), max(ys)), share


def area(box):
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def within(place, length, padding):
    """A position outside 0..length−1 brought inside, pixel by pixel; None: what is filled."""
    if 0 <= place < length:
        return place
    if padding == "constant":
        return None
    if padding == "edge":
        return 0 if place < 0 else length - 1
    while not 0 <= place < length:
        if length == 1:
            return 0
        mirror = 0 if padding == "reflect" else 1
        place = -place - mirror if place < 0 else 2 * (length - 1) - place + mirror
    return place


def mask(plan, row, given, fill):
    """A mask (H, W) moved by the nearest pixel: as a list of rows."""
    for matrix, _, segment in steps(plan, row):
        fixed = np.round(matrix * ONE).astype(object)
        bounds = getattr(segment, "bounds", None)
        bounds = None if bounds is None else [int(value * ONE) for value in bounds[row].tolist()]
        padding = getattr(segment, "padding", "constant")
        made = []
        for y in range(segment.size[0]):
            made.append([])
            for x in range(segment.size[1]):
                if segment.matrix.shape[1] == 3:
                    u, v = (round(value * ONE) for value in sent(matrix, x, y))
                else:
                    u, v = (int(line[0] * x + line[1] * y + line[2]) for line in fixed[:2])
                if bounds is not None:
                    u, v = min(max(u, bounds[0]), bounds[1]), min(max(v, bounds[2]), bounds[3])
                column = within((u + ONE // 2) // ONE, len(given[0]), padding)
                line = within((v + ONE // 2) // ONE, len(given), padding)
                made[-1].append(fill if column is None or line is None else given[line][column])
        given = made
    return given


def map_at_scale(plan, row, given, fill):
    """A mask (h, w) of another resolution: each of its pixels goes through the image's continuous pixels, and back."""
    for matrix, (height, width), segment in steps(plan, row):
        tall, wide = len(given), len(given[0])
        rows = max(1, round(tall * segment.size[0] / height))
        columns = max(1, round(wide * segment.size[1] / width))
        made = []
        for i in range(rows):
            made.append([])
            for j in range(columns):
                there = (j + 0.5) * segment.size[1] / columns, (i + 0.5) * segment.size[0] / rows
                x, y = sent(matrix, there[0] - 0.5, there[1] - 0.5) + 0.5
                column, line = math.floor(x * wide / width), math.floor(y * tall / height)
                inside = 0 <= column < wide and 0 <= line < tall
                made[-1].append(given[line][column] if inside else fill)
        given = made
    return given


def left_of_polygon(points, window):
    """Area of what of a convex polygon lies in a window: cut by one side after the other."""
    left, top, right, bottom = window
    for inward in (
        lambda p: p[0] - left,
        lambda p: p[1] - top,
        lambda p: right - p[0],
        lambda p: bottom - p[1],
    ):
        cut = []
        for here, there in zip(points, points[1:] + points[:1], strict=True):
            if inward(here) >= 0:
                cut.append(here)
            if (inward(here) >= 0) != (inward(there) >= 0):
                t = inward(here) / (inward(here) - inward(there))
                cut.append((here[0] + t * (there[0] - here[0]), here[1] + t * (there[1] - here[1])))
        points = cut
    pairs = zip(points, points[1:] + points[:1], strict=True)
    return abs(sum(a[0] * b[1] - a[1] * b[0] for a, b in pairs)) / 2


def map_sample(image, x, y):
    """Bilinear interpolation of an array (H, W) at index coordinates; nothing outside."""
    total = 0.0
    for line in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= line < image.shape[0] and 0 <= column < image.shape[1]:
                total += image[line, column] * (1 - abs(y - line)) * (1 - abs(x - column))
    return total


def flow(plan, row, given):
    """Motion (2, H, W) moved: at each place the vector from where it came to where its end came."""
    for matrix, _, segment in steps(plan, row):
        made = np.zeros((2, *segment.size))
        for y in range(segment.size[0]):
            for x in range(segment.size[1]):
                u, v = sent(matrix, x, y)
                read = (u, v)
                if getattr(segment, "bounds", None) is not None:
                    low_x, high_x, low_y, high_y = segment.bounds[row].tolist()
                    read = min(max(u, low_x), high_x), min(max(v, low_y), high_y)
                vector = np.array([map_sample(given[n], *read) for n in range(2)])
                end = sent(np.linalg.inv(matrix), u + vector[0], v + vector[1])
                made[:, y, x] = end - np.array([x, y])
        given = made
    return given
