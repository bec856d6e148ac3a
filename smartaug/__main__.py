"""``python -m smartaug`` is the command ``smartaug``."""

import sys

from .cli.main import main

sys.exit(main())
