"""Put the machine code of the search into wheels (`asr/compute/machine_code.py`); all else is in pyproject.toml."""

import os
import subprocess
import sys

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

KERNELS = (
    "asr.ctc.beam._kernels",
    "asr.ctc.beam._subword_kernels",
    "asr.ctc.alignment._kernels",
    "asr.ctc.subword_alignment._kernels",
    "asr.lm.ngram._kernels",
)
COMPILE = """
import importlib, sys
sys.path.insert(0, sys.argv[1])
module, _, name = sys.argv[2].rpartition(".")
getattr(importlib.import_module(module), name).build()
"""


class BuildWithMachineCode(build_py):
    def run(self):
        super().run()
        if not self.editable_mode:
            command = [sys.executable, "-c", COMPILE, os.path.abspath(self.build_lib)]
            compilers = [subprocess.Popen([*command, kernels]) for kernels in KERNELS]
            statuses = [compiler.wait() for compiler in compilers]
            if any(statuses):
                raise SystemExit("the machine code of the search could not be compiled")


class WheelOfOnePlatform(bdist_wheel):
    def get_tag(self):
        return "py3", "none", super().get_tag()[2]  # any Python, but this system and architecture


class PackageWithMachineCode(Distribution):
    def has_ext_modules(self):
        return True


setup(
    distclass=PackageWithMachineCode,
    cmdclass={"build_py": BuildWithMachineCode, "bdist_wheel": WheelOfOnePlatform},
)
