"""Makes `shapes` importable for the benchmarks, wherever they are started from."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
