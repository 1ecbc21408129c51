"""`python -m mbrl_bilevel` is `mbrl-bilevel`."""

import sys

from mbrl_bilevel.cli import main

sys.exit(main())
