import sys

from kbert.commands.cli import main

sys.exit(main())
