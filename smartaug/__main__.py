"""``python -m smartaug`` is the command ``smartaug``."""

import sys

from .cli import main

sys.exit(main())
