"""No test and no supervisor imports this: whoever does leaves a mark."""

import os
from pathlib import Path

from tests.faults.recorded import Recorded

Path(os.environ["FAULTS_MARK"]).touch()


class Evil(Recorded):
    """Would be a processor, were it registered."""

    def work(self):
        Path(os.environ["FAULTS_MARK"]).touch()
