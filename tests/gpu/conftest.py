"""cuBLAS reads this variable once in a process, at the first product on the GPU."""

import os

from wsss.machine.runtime import CUBLAS_WORKSPACE

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", CUBLAS_WORKSPACE)
