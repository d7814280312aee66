import logging
import warnings

import pytest

from medssl.core.quiet import quiet


def test_log_records_and_warnings_are_dropped_inside_only(caplog, recwarn):
    with quiet():
        logging.getLogger("medssl").error("inside")
        warnings.warn("inside", UserWarning, stacklevel=1)
    logging.getLogger("medssl").error("outside")
    assert [record.message for record in caplog.records] == ["outside"]
    assert not recwarn.list


def test_errors_pass_and_logging_comes_back(caplog):
    with pytest.raises(ValueError, match="told"), quiet():
        message = "told"
        raise ValueError(message)
    logging.getLogger("medssl").error("after")
    assert caplog.messages == ["after"]
