"""nbval's kernels answer on sockets in a folder of their own instead of on TCP ports.

A kernel's ports are picked before it starts and bound a second later. Two workers that start kernels at once can pick
the same, and a kernel that finds its iopub port taken neither runs nor ends (ipykernel 7.4), so that nbval gives up on
it after 60 seconds: "Kernel didn't respond".
"""

import atexit
import os
import shutil
import tempfile

try:
    import nbval.kernel
except ImportError:  # then no notebooks are tested
    nbval = None

if nbval and os.name == "posix":  # pyzmq's wheels for Windows have no such sockets
    KernelManager = nbval.kernel.KernelManager

    def socket_kernel_manager(**options: object) -> KernelManager:
        folder = tempfile.mkdtemp(prefix="kernel-", dir="/tmp")  # a socket's path has 103 characters at most
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        return KernelManager(transport="ipc", connection_file=os.path.join(folder, "kernel.json"), **options)

    nbval.kernel.KernelManager = socket_kernel_manager
