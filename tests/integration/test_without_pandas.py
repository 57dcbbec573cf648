"""Goal: no program of k2i pays for pandas, and whoever imports k2i_core can still use it.

Method: a fresh interpreter runs a command that imports Arrow and PyIceberg, as `k2i` does, and then
tells which modules it has. pandas is installed where tests run, and comes with Arrow's first value
when nothing keeps it out.
"""

import subprocess
import sys

PROGRAM = """
import sys
from k2i_core.cli.main import main

sys.argv = ["k2i", "table", "--help"]
try:
    main()
except SystemExit:
    pass
print(*(name for name in ("pyarrow.dataset", "pandas") if name in sys.modules))
import pandas
print(pandas.Series([1]).sum())
"""


def test_a_command_keeps_pandas_out_while_it_runs():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout.splitlines()[-2:], done.stderr) == (["pyarrow.dataset", "1"], "")
