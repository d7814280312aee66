"""Tables: columns, separators, and every wrong row named."""

import pytest
from faults.small_dataset import image, label, save

from medssl.core.errors import ConfigError
from medssl.data.import_cases import ImportOptions
from medssl.data.import_csv import import_csv

LABELS = {"0": "background", "1": "x"}


@pytest.fixture
def load(tmp_path):
    for seed, name in enumerate("abc"):
        save(tmp_path / f"{name}.nii.gz", image(seed))
    save(tmp_path / "l.nii.gz", label())

    def load_table(*lines, encoding="utf-8"):
        (tmp_path / "table.csv").write_text("\n".join(lines), encoding=encoding)
        return import_csv(tmp_path / "table.csv", ImportOptions(root=tmp_path, labels=LABELS, modality="MR")).manifest

    return load_table


def test_all_columns_arrive(load):
    manifest = load("id,image,label,patient,site,class,part,fold", "1,a.nii.gz,l.nii.gz,p,s,3,training,2")
    (case,) = manifest.training
    assert (case.id, case.image, case.label, case.patient) == ("1", ("a.nii.gz",), "l.nii.gz", "p")
    assert (case.site, case.class_, case.fold) == ("s", 3, 2)
    assert manifest.name == "table"


def test_the_part_follows_from_label_and_class(load):
    manifest = load("id,image,label,class", "1,a.nii.gz,l.nii.gz,", "2,b.nii.gz,,benign", "3,c.nii.gz,,")
    assert [case.id for case in manifest.training] == ["1", "2"]
    assert [case.id for case in manifest.unlabeled] == ["3"]


def test_channels_come_in_their_order(load):
    manifest = load("image_1,id,image_0", "b.nii.gz,1,a.nii.gz")
    assert manifest.unlabeled[0].image == ("a.nii.gz", "b.nii.gz")


@pytest.mark.parametrize("separator", [";", "\t"])
def test_other_separators_marks_and_empty_lines_of_spreadsheets(load, separator):
    manifest = load(
        separator.join(["id", " image "]), separator.join(["1", "a.nii.gz"]), separator, encoding="utf-8-sig"
    )
    assert manifest.unlabeled[0].id == "1"


@pytest.mark.parametrize(
    ("heading", "named"),
    [
        ("id,image,lable", 'Did you mean "label"'),
        ("image", 'no column "id"'),
        ("id,label", 'either a column "image"'),
        ("id,image,image_0", 'either a column "image"'),
        ("id,id,image", "twice"),
    ],
)
def test_wrong_columns_are_named(load, heading, named):
    with pytest.raises(ConfigError, match=named):
        load(heading, "1,a.nii.gz,x")


def test_all_wrong_rows_are_listed_with_their_numbers(load):
    with pytest.raises(ConfigError) as caught:
        load("id,image,part,fold", "1,a.nii.gz,trainig,", ",a.nii.gz,,", "3,a.nii.gz,,x", "4,a.nii.gz,,")
    text = str(caught.value)
    assert "3 of 4 rows" in text
    assert "row 2: part: expected one of training" in text and 'Did you mean "training"' in text
    assert "row 3: expected an id" in text
    assert "row 4: fold" in text


def test_too_many_cells_are_refused(load):
    with pytest.raises(ConfigError, match="row 2: expected 2 cells"):
        load("id,image", "1,a,b.nii.gz")


def test_a_path_that_leaves_the_root_is_refused(load):
    with pytest.raises(ConfigError, match=r"row 2: a\.nii\.gz does not lie below"):
        load("id,image", "1,../a.nii.gz")


def test_repeated_ids_are_refused(load):
    with pytest.raises(ConfigError, match="case ids must be unique"):
        load("id,image", "1,a.nii.gz", "1,b.nii.gz")


def test_a_table_in_another_encoding_is_refused(load):
    with pytest.raises(ConfigError, match="UTF-8"):
        load("id,image", "ä,a.nii.gz", encoding="latin-1")


def test_a_quote_that_is_not_closed_swallows_no_row(load):
    with pytest.raises(ConfigError, match="quote that is not closed"):
        load("id,image,patient", '1,a.nii.gz,"Doe', "2,b.nii.gz,Roe")


def test_a_cell_too_long_is_refused(load):
    with pytest.raises(ConfigError, match="field limit"):
        load("id,image", f"1,{'x' * 200_000}")


def test_line_breaks_in_a_cell_are_kept(load):
    manifest = load("id,image,site", '1,a.nii.gz,"up\u2028per\nfloor"', "2,b.nii.gz,y")
    assert [case.site for case in manifest.unlabeled] == ["up\u2028per\nfloor", "y"]


@pytest.mark.parametrize("value", ["²", "9" * 5000])
def test_odd_digits_are_names_of_classes_and_no_folds(load, value):
    assert load("id,image,class", f"1,a.nii.gz,{value}").training[0].class_ == value
    with pytest.raises(ConfigError, match="fold: expected a whole number"):
        load("id,image,fold", f"1,a.nii.gz,{value}")
