"""`python -m fastrl` is `fastrl`."""

import sys

from fastrl.cli.main import main

sys.exit(main())
