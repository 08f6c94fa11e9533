"""`python -m tests.soak --seconds 1800`: print what well-behaved clients measure while others misbehave."""

import argparse
import sys

from .soak import run

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--seconds", type=float, default=1_800)
sys.stdout.write(run(parser.parse_args().seconds).summary() + "\n")
