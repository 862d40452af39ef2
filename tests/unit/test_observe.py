"""What a log line never holds."""

import pytest
import structlog

from shared.observe import configure_logs


@pytest.mark.parametrize("style", ["json", "pretty"])
def test_a_stack_in_the_log_shows_no_local_values(style: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("test", "INFO", style)
    try:
        _fail("hunter2" + "-secret")
    except ValueError:
        structlog.get_logger().exception("failed")
    finally:
        structlog.reset_defaults()
    written = capsys.readouterr().out
    assert "_fail" in written
    assert "hunter2-secret" not in written


def _fail(password: str) -> None:
    raise ValueError(len(password))
