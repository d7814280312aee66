from studies.small_study import Recorder, manifest, plan

from medssl.studies.curve import curve_figure, write_curve
from medssl.studies.run import run_study
from medssl.studies.summary import summarise


def test_curve_is_a_png(tmp_path) -> None:
    rows = summarise(plan(), run_study(plan(), manifest(), tmp_path, Recorder().hands))
    write_curve(tmp_path / "curve.png", curve_figure(rows, title="small"))
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
