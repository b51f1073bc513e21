"""`python -m nevus`."""

import sys

from nevus.cli.main import main

sys.exit(main())
