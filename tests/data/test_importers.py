"""Choosing the format, and labels from the command line."""

import pytest
from faults.small_dataset import image, save

from medssl.core.errors import ConfigError
from medssl.data.import_cases import ImportOptions
from medssl.data.importers import FORMATS, import_data, parse_labels


@pytest.fixture
def table(tmp_path):
    save(tmp_path / "imagesTr" / "a.nii.gz", image(0))
    (tmp_path / "t.csv").write_text("id,image\ncase one,imagesTr/a.nii.gz")
    return tmp_path / "t.csv"


def test_the_format_is_recognised(table):
    options = ImportOptions(root=table.parent)
    assert import_data(table, options).manifest.unlabeled[0].id == "case one"
    assert import_data(table.parent, options).manifest.unlabeled[0].id == "a"


def test_an_unknown_format_lists_the_known_ones(table):
    with pytest.raises(ConfigError, match=r'Did you mean "msd"\? Known: auto, bpmri, csv, msd'):
        import_data(table, ImportOptions(root=table.parent), layout="mds")


def test_what_cannot_be_recognised_is_refused(tmp_path):
    for source in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(ConfigError, match="expected a folder"):
            import_data(source, ImportOptions(root=tmp_path))


def test_a_later_format_joins_as_one_function(table, monkeypatch):
    monkeypatch.setitem(FORMATS, "other", lambda source, options: (source, options))
    options = ImportOptions(root=table.parent)
    assert import_data(table, options, layout="other") == (table, options)


def test_labels_are_read_sorted_and_background_is_added():
    assert parse_labels("10=b, 2=a") == {"0": "background", "2": "a", "10": "b"}
    assert list(parse_labels("10=b, 2=a")) == ["0", "2", "10"]
    assert parse_labels("0=air,1=lung")["0"] == "air"


@pytest.mark.parametrize("text", ["liver", "a=1", "1=", "1=a,1=b", "01=a,1=b", "", "²=a", "123456=a"])
def test_labels_that_make_no_sense_are_refused(text):
    with pytest.raises(ConfigError, match="--labels"):
        parse_labels(text)
