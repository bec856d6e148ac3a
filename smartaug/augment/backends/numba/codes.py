"""What a number in an encoded plan means to the compiled interpreter; nothing here is compiled or imports numba.

`run` writes these codes and `program` compiles them in. The codes of tones are those of `tables.tones`, below `TONES`.
"""

from __future__ import annotations

from ..tables import tones

TONES = 32  # fixed, so that a further tone leaves all other codes as they are
if len(tones.TABLE) > TONES:
    raise ValueError(f"numba/codes.py has room for {TONES} tones, tables/tones.py has {len(tones.TABLE)}; raise TONES")

# what the interpreter does to a sample; 0: nothing
SHARPNESS, NEAREST, NEAREST_SEPARABLE, BILINEAR, BILINEAR_SEPARABLE, ERASE, BICUBIC, LOOKUP = range(TONES, TONES + 8)
RARE = TONES + 8  # codes from here on, and noise behind the store, are compiled when they are first met
CLAHE, NOISE, NEAREST_PADDED, BILINEAR_PADDED = range(RARE, RARE + 4)

PLANAR, INTERLEAVED = 0, 1  # how the batch lies in memory: (B, C, H, W), or channels_last
COPY, PASTE, BLEND = 0, 1, 2  # how a sample is read: by itself, with a box of another, blended with another
CONSTANT, FLAT, NOISY = 0, 1, 2  # how a box behind the store is filled: a value, noise a channel, noise a pixel
