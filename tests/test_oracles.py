from __future__ import annotations

import pytest

from tests.oracles import load_or_skip


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("raise OSError('undefined symbol: _ZN\\nmore')", r"OSError: undefined symbol: _ZN$"),
        ("import a_module_that_nobody_has", "ModuleNotFoundError: No module named 'a_module_that_nobody_has'$"),
        ("import sys; sys.gone", "AttributeError: module 'sys' has no attribute 'gone'$"),
        ("raise RuntimeError", "RuntimeError: $"),
    ],
)
def test_a_library_that_does_not_load_skips_the_test_with_the_reason(tmp_path, monkeypatch, request, content, reason):
    name = f"broken_{request.node.callspec.indices['content']}"
    (tmp_path / f"{name}.py").write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    for _ in range(2):
        with pytest.raises(pytest.skip.Exception, match=f"^{name}, an oracle, does not load: {reason}"):
            load_or_skip(name)


def test_one_that_loads_is_given():
    assert load_or_skip("pytest") is pytest
