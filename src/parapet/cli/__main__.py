"""`python -m parapet.cli` is `parapet`."""

import sys

from parapet.cli import main

sys.exit(main())
