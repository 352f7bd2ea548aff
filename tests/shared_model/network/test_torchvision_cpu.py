"""torchvision's import, in a fresh interpreter each: this process may have imported it already."""

import subprocess
import sys
import textwrap


def _run(script: str) -> str:
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(script)]
    result = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_import_has_no_side_effect_and_loading_twice_gives_the_same_module():
    output = _run("""
        import sys
        from shared_model.network import backbone, torchvision_cpu
        assert not any(name.startswith("torchvision") for name in sys.modules)
        first = torchvision_cpu.load_torchvision_models()
        second = torchvision_cpu.load_torchvision_models()
        import torchvision
        assert first is second is torchvision.models
        print(first.resnet18.__name__)
    """)
    assert output == "resnet18"


def test_a_torchvision_that_imports_by_itself_gets_no_declarations(tmp_path):
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "models.py").write_text("name = 'intact'")
    output = _run(f"""
        import sys
        sys.path.insert(0, {str(tmp_path)!r})
        import torch
        from shared_model.network.torchvision_cpu import load_torchvision_models
        print(load_torchvision_models().name, hasattr(torch.ops.torchvision, "nms"))
    """)
    assert output == "intact False"


def test_another_failure_of_torchvision_is_passed_on(tmp_path):
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('broken for another reason')")
    output = _run(f"""
        import sys
        sys.path.insert(0, {str(tmp_path)!r})
        from shared_model.network.torchvision_cpu import load_torchvision_models
        try:
            load_torchvision_models()
        except RuntimeError as error:
            print(error)
    """)
    assert output == "broken for another reason"
