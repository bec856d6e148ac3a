"""Facts that several backends are made from, each in one file: change a fact here and every backend follows.

| file | holds |
|---|---|
| `tones` | the operations on colours and grey levels, and the weights of red, green and blue in grey |
| `filters` | the operations that compute a pixel from its neighbours |
| `coordinates` | the units of places in an image that is resampled |
| `paddings` | what lies outside an image that is resampled |
| `codes` | checking the numbers by which a plan names operations |
| `cubic` | bicubic weights |
| `gauss` | normal noise |
| `lab` | conversion to CIE Lab and back |

These files import nothing from the plan or the backends, so that all of those can import them.
"""
