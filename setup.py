"""Drives CMake and places what it builds inside the package; CMakeLists.txt alone knows sources and flags."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()


class CMakeBuild(build_ext):
    """Builds every native library of the project, whatever extensions setuptools believes there are."""

    def run(self) -> None:
        package = ROOT / "fastrl" if self.in_place else Path(self.build_lib).resolve() / "fastrl"
        build = ROOT / "build" / "in-place" if self.in_place else Path(self.build_temp).resolve()
        jobs = str(self.parallel or os.environ.get("CMAKE_BUILD_PARALLEL_LEVEL") or os.cpu_count() or 1)
        settings = {
            "CMAKE_BUILD_TYPE": "Release",
            "CMAKE_INSTALL_PREFIX": package,
            "Python_EXECUTABLE": sys.executable,
            "FASTRL_CUDA": os.environ.get("FASTRL_CUDA", "auto"),
            "FASTRL_SANITIZE": os.environ.get("FASTRL_SANITIZE", "0"),
            # what only tests and benches use stays out of wheels
            "FASTRL_DEV": "1" if self.in_place else "0",
        }
        # an isolated build brings its own ninja in a folder that is gone at the next build: never take it
        # from CMake's cache
        ninja = shutil.which("ninja")
        generator = ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}"] if ninja else []
        defines = [f"-D{name}={value}" for name, value in settings.items()]
        subprocess.run(["cmake", "-S", ROOT, "-B", build, *generator, *defines], check=True)
        subprocess.run(["cmake", "--build", build, "--parallel", jobs], check=True)
        subprocess.run(["cmake", "--install", build], check=True)

    @property
    def in_place(self) -> bool:
        return bool(self.inplace or self.editable_mode)

    def get_outputs(self) -> list[str]:
        return [] if self.in_place else [str(path) for path in Path(self.build_lib, "fastrl").glob("*.so")]

    def get_output_mapping(self) -> dict[str, str]:
        return {}


# the one extension named here makes setuptools tag the wheel for this Python and platform; CMake builds it
# with the rest
setup(ext_modules=[Extension("fastrl._native", sources=[])], cmdclass={"build_ext": CMakeBuild})
