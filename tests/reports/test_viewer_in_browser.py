"""The viewer page in a real browser, from a file and without a network: it shows, scrolls, switches and tells."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from chromium import chromium, find_chromium
from PIL import Image

from medssl.reports.build import write_report
from medssl.reports.case_volumes import CaseVolumes
from medssl.reports.images import Volume
from medssl.reports.viewer import ViewerFolder

pytestmark = pytest.mark.skipif(find_chromium() is None, reason="needs Chromium (Debian: apt install chromium)")

HOSTILE = "<img src=x onerror=window.attacked=1><script>window.attacked=1</script>"
SHAPE = (14, 16, 18)
# One voxel of each kind: in both label maps, in the prediction only, in the reference only, in neither
BOTH, PREDICTED, REFERRED, NEITHER = (5, 6, 7), (9, 6, 7), (2, 6, 7), (12, 14, 16)


def _case(*, reference=True):
    prediction, truth = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    prediction[4:10, 4:9, 5:10] = 4
    truth[2:8, 4:9, 5:10] = 4
    truth[4:8, 10:13, 5:10] = 9
    x, y, z = np.indices(SHAPE)
    image = Volume((x + 20 * y + 400 * z).astype(np.int16), (1.0, 1.0, 2.0), np.diag([1.0, 1.0, 2.0, 1.0]))
    names = {4: HOSTILE, 9: "box"}
    return CaseVolumes(
        id=HOSTILE, image=image, prediction=prediction, reference=truth if reference else None, names=names,
        modality="MR",
    )  # fmt: skip


@pytest.fixture(scope="module")
def browser():
    with chromium(width=640, height=900) as page:
        yield page


def _open(browser, file):
    browser.open(file.as_uri())
    browser.wait_for("document.body.dataset.state !== undefined")
    return browser


@pytest.fixture(scope="module")
def page(browser, tmp_path_factory):
    folder = ViewerFolder(report=tmp_path_factory.mktemp("browser") / "r.html", title=HOSTILE)
    folder.write(_case(), role="Worst case", text=HOSTILE)
    return _open(browser, next(folder.folder.iterdir()))


def _canvas(page) -> np.ndarray:
    # Read in the task that draws: afterwards the buffer belongs to the compositor
    address = page.evaluate("(viewer.drawScene(), document.getElementById('canvas').toDataURL())")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))).convert("RGB")).astype(int)


def _click(page, element):
    page.evaluate(f"document.getElementById('{element}').click()")


def _move_to(page, voxel):
    for axis, index in zip("xyz", voxel, strict=True):
        page.evaluate(
            f"(slider => {{ slider.value = {index + 1}; slider.dispatchEvent(new Event('input')); }})"
            f"(document.getElementById('slice-{axis}'))"
        )


def _texts(page, *names):
    return [page.evaluate(f"document.getElementById('at-{name}').textContent") for name in names]


def test_page_loads_without_an_error_or_a_request_to_elsewhere(page):
    assert page.evaluate("document.body.dataset.state") == "ready"
    assert page.errors == []
    assert {address.split(":")[0] for address in page.requests} == {"file", "data"}


def test_names_with_html_in_them_do_not_run(page):
    assert page.evaluate("window.attacked === undefined")
    assert HOSTILE in page.evaluate("document.querySelector('h1').textContent")
    assert page.evaluate("document.images.length") == 0


def test_image_and_both_label_maps_are_displayed(page):
    assert page.evaluate("viewer.volumes.length") == 3
    canvas = _canvas(page)
    grey = canvas.std(axis=-1) == 0
    assert len(np.unique(canvas[grey], axis=0)) > 20 and (~grey).mean() > 0.01


@pytest.mark.parametrize("switch", ["prediction-shown", "reference-shown", "prediction-outline", "reference-outline"])
def test_switches_change_the_picture_and_change_it_back(page, switch):
    _move_to(page, BOTH)
    before = _canvas(page)
    _click(page, switch)
    changed = _canvas(page)
    _click(page, switch)
    assert (before != changed).any() and np.array_equal(before, _canvas(page))


def test_without_both_label_maps_only_grey_is_left(page):
    for switch in ("prediction-shown", "reference-shown"):
        _click(page, switch)
    colours = _canvas(page).std(axis=-1)
    for switch in ("prediction-shown", "reference-shown"):
        _click(page, switch)
    assert colours.max() < 3 < _canvas(page).std(axis=-1).max()


def test_opacity_fades_the_prediction(page):
    _move_to(page, PREDICTED)

    def colour(percent):
        page.evaluate(
            f"(slider => {{ slider.value = {percent}; slider.dispatchEvent(new Event('input')); }})"
            "(document.getElementById('prediction-opacity'))"
        )
        return _canvas(page).std(axis=-1).sum()

    faint, strong, usual = colour(10), colour(90), colour(45)
    assert faint < usual < strong


@pytest.mark.parametrize(
    ("voxel", "predicted", "referred"),
    [
        (BOTH, HOSTILE, HOSTILE),
        (PREDICTED, HOSTILE, "background"),
        (REFERRED, "background", HOSTILE),
        (NEITHER, "background", "background"),
        ((5, 11, 7), "background", "box"),
    ],
    ids=["both", "prediction", "reference", "neither", "other structure"],
)
def test_what_lies_at_the_crosshair_is_written(page, voxel, predicted, referred):
    _move_to(page, voxel)
    x, y, z = voxel
    assert _texts(page, "prediction", "reference") == [predicted, referred]
    assert _texts(page, "image", "position") == [f"{x + 20 * y + 400 * z}", f"{x:.1f}, {y:.1f}, {2 * z:.1f}"]


@pytest.mark.parametrize(("axis", "order"), [("x", 0), ("y", 1), ("z", 2)])
def test_arrow_key_on_a_slider_moves_one_slice(page, axis, order):
    _move_to(page, BOTH)
    before = _canvas(page)
    page.evaluate(f"document.getElementById('slice-{axis}').focus()")
    page.press("ArrowRight")
    moved = list(BOTH)
    moved[order] += 1
    assert page.evaluate("crosshair()") == moved
    assert _texts(page, axis) == [f"{moved[order] + 1} of {SHAPE[order]}"]
    assert (before != _canvas(page)).any()


@pytest.fixture
def axial(page):
    choose = "(select => {{ select.value = '{0}'; select.dispatchEvent(new Event('change')); }})(planes)"
    page.evaluate(choose.format(0))
    _move_to(page, BOTH)
    page.evaluate("window.scrollTo(0, 0)")
    yield page
    page.evaluate(choose.format(3))


def test_mouse_wheel_scrolls_and_the_slider_follows(axial):
    middle = axial.evaluate("(r => [r.x + r.width / 2, r.y + r.height / 2])(canvas.getBoundingClientRect())")
    axial.mouse("mouseMoved", *middle)
    axial.mouse("mouseWheel", *middle, deltaX=0, deltaY=120)
    axial.wait_for(f"Math.abs(crosshair()[2] - {BOTH[2]}) === 1")
    assert axial.evaluate("Number(document.getElementById('slice-z').value) === crosshair()[2] + 1")
    assert axial.evaluate("crosshair()")[:2] == list(BOTH[:2])


def test_click_moves_the_crosshair_to_the_patients_right_and_front(axial):
    left_above = axial.evaluate("(r => [r.x + r.width * 0.35, r.y + r.height * 0.3])(canvas.getBoundingClientRect())")
    for kind in ("mousePressed", "mouseReleased"):
        axial.mouse(kind, *left_above, button="left", clickCount=1)
    axial.wait_for(f"crosshair()[0] > {BOTH[0]}")
    x, y, z = axial.evaluate("crosshair()")
    assert x > SHAPE[0] / 2 and y > SHAPE[1] / 2 and z == BOTH[2]


def test_patients_right_is_on_the_left_and_the_front_on_top(axial):
    _click(axial, "prediction-shown")
    canvas = _canvas(axial)
    _click(axial, "prediction-shown")
    blue_less_red = canvas[..., 2] - canvas[..., 0]
    (first, columns), (box, _) = np.nonzero(blue_less_red > 60), np.nonzero(blue_less_red < -60)
    # The reference lies on the patient's left (x 2 to 7 of 14): the first structure at the back, the box in front
    assert columns.mean() > canvas.shape[1] / 2
    assert box.mean() < canvas.shape[0] / 2 < first.mean()


def test_grey_values_follow_their_bounds(page):
    before = _canvas(page)
    set_white = (
        "(box => {{ box.value = {0}; box.dispatchEvent(new Event('input')); }})(document.getElementById('white'))"
    )
    usual = page.evaluate("document.getElementById('white').value")
    page.evaluate(set_white.format(1000))
    brighter = _canvas(page)
    page.evaluate(set_white.format(usual))
    assert brighter.mean() > before.mean() + 5


def test_case_without_a_reference_shows_two_volumes(browser, tmp_path):
    folder = ViewerFolder(report=tmp_path / "r.html", title="T")
    folder.write(_case(reference=False), role="Not scored", text="t")
    page = _open(browser, next(folder.folder.iterdir()))
    assert page.evaluate("document.body.dataset.state") == "ready" and page.errors == []
    assert page.evaluate("viewer.volumes.length") == 2


def test_damaged_page_says_so(browser, tmp_path):
    folder = ViewerFolder(report=tmp_path / "r.html", title="T")
    file = tmp_path / folder.write(_case(reference=False), role="R", text="t")
    text = file.read_text()
    start = text.index('id="data-prediction">') + len('id="data-prediction">')
    file.write_text(text[: start + 40] + text[text.index("<", start) :])
    page = _open(browser, file)
    assert page.evaluate("document.body.dataset.state") == "failed"
    assert "cannot be shown" in page.evaluate("document.querySelector('[role=alert]:not([hidden])').textContent")


def test_report_itself_loads_without_an_error_or_a_request_to_elsewhere(browser, study, tmp_path):
    write_report(list(study.values()), tmp_path / "r.html", worst=0, unscored=0)
    browser.errors.clear()
    browser.requests.clear()
    browser.open((tmp_path / "r.html").as_uri())
    assert browser.errors == [] and {address.split(":")[0] for address in browser.requests} == {"file", "data"}
    assert browser.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
