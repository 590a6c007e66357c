"""`python -m vqathinker_verl.cli`."""

import sys

from vqathinker_verl.cli.main import main

sys.exit(main())
