"""The notebooks in a real browser: every cell runs, every explorer answers a hand on its control, nothing complains."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

pytestmark = pytest.mark.browser

NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "notebooks").glob("[0-9]*.ipynb"))
MAIN_CONTROL = {
    "explore_frequency": "radius (cycles per picture)",
    "explore_views": "radius (cycles per picture)",
    "explore_clusters": "cluster (number)",
    "explore_attack": "epsilon, Linf (grey levels)",
}
CHANGED = "([image, before]) => image.src !== before"


def drag(page, slider, share):
    """Take the slider's handle with the mouse and move it by a share of the slider's length."""
    slider.scroll_into_view_if_needed()
    pixels = share * slider.locator(".noUi-target").bounding_box()["width"]
    box = slider.locator(".noUi-handle").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + pixels, y, steps=10)
    page.mouse.up()


def wait_for_change(page, image, before):
    page.wait_for_function(CHANGED, arg=[image.element_handle(), before])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebook(path, open_notebook):
    notebook = open_notebook(path.name)
    notebook.run()
    page = notebook.page
    cells = page.locator(".jp-CodeCell")
    sources = [cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
    notebook.keep(page, "page")
    for place, source in enumerate(sources):
        used = re.findall(r"adv\.(explore_\w+|watch)\(", source)
        for number, explorer in enumerate(used):
            shown = cells.nth(place).locator(".jp-OutputArea-child:has(.widget-image)").nth(number)
            try_explorer(notebook, explorer, shown)
            notebook.keep(shown, f"{explorer}_{place}")


def try_explorer(notebook, explorer, shown):
    """Move the explorer's main control and wait for its picture to change."""
    page, image = notebook.page, shown.locator(".widget-image").first
    image.wait_for()
    before = image.get_attribute("src")
    if explorer == "watch":
        assert shown.locator("button").first.is_disabled()  # the loop is over
    elif explorer == "explore_embedding":
        try_map(page, shown)
        wait_for_change(page, image, before)
    else:
        label = page.locator(".widget-label", has_text=MAIN_CONTROL[explorer])
        slider = shown.locator(".widget-slider", has=label)
        drag(page, slider, 0.7 if explorer == "explore_clusters" else 0.25)  # there may be two clusters
        wait_for_change(page, image, before)
        before = image.get_attribute("src")
        slider.locator(".noUi-handle").focus()
        page.keyboard.press("ArrowLeft")
        wait_for_change(page, image, before)


def try_map(page, shown):
    """Point at an image, and draw a loop around a part of the map."""
    canvas = shown.locator("canvas").first
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    left, top, right, low = box["x"] + 5, box["y"] + 5, box["x"] + box["width"] - 5, box["y"] + box["height"] - 5
    for x in range(int(left), int(right), 15):  # somewhere along two lines an image lies near
        page.mouse.move(x, top + box["height"] * (0.3 if x % 2 else 0.6))
        if canvas.get_attribute("data-over"):
            break
    assert canvas.get_attribute("data-over"), "no image under the pointer anywhere"
    assert shown.get_by_text("image ", exact=False).first.is_visible()
    draw_loop(page, left, top, (left + right) / 2, low)
    shown.get_by_text("Selected ").wait_for()


def draw_loop(page, left, top, right, low):
    page.keyboard.down("Shift")
    page.mouse.move(left, top)
    page.mouse.down()
    for x, y in ((right, top), (right, low), (left, low)):
        page.mouse.move(x, y, steps=4)
    page.mouse.up()
    page.keyboard.up("Shift")


def test_the_map_shows_the_image_that_lies_there(open_notebook, lab):
    """Five known places, in a row of their own each: pointer, loop, wheel, drag and keys find the right rows."""
    make = """import torch
import advcl_nb as adv

points = torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0], [4.0, 4.0], [1.0, 3.0]])
images = adv.shapes(10, size=16)[:5]
explorer = adv.explore_embedding(points, images, images.y, moved=points + 0.5)
explorer.controls["copies"].value = False
explorer"""
    write(lab, "map.ipynb", make)
    notebook = open_notebook("map.ipynb")
    notebook.run()
    page = notebook.page
    canvas = page.locator("canvas[data-drawn]")
    box = canvas.bounding_box()
    side = min(box["width"], box["height"]) - 24
    left, top = box["x"] + (box["width"] - side) / 2, box["y"] + (box["height"] - side) / 2

    def place(x, y):  # on the screen, of a point on the map that is 4.5 wide, copies and all
        return left + x / 4.5 * side, top + (1 - y / 4.5) * side

    for row, (x, y) in enumerate([(0, 0), (4, 0), (0, 4), (4, 4), (1, 3)]):
        page.mouse.move(*place(x, y))
        page.wait_for_function(
            "([canvas, row]) => canvas.dataset.over === String(row)", arg=[canvas.element_handle(), row]
        )
        page.get_by_text(f"image {row}: ").wait_for()
    (x0, y0), (x1, y1) = place(-0.3, 4.3), place(1.5, 2.0)
    draw_loop(page, x0, y0, x1, y1)  # around rows 2 and 4
    page.get_by_text("Selected 2 images").wait_for()
    draw_loop(page, x0, y0, place(1.5, -0.3)[0], place(1.5, -0.3)[1])  # and row 0
    page.get_by_text("Selected 3 images").wait_for()
    page.mouse.move(*place(4, 4))
    page.mouse.wheel(0, -1500)  # the place under the pointer stays
    canvas.press("Enter")
    page.get_by_text("Selected 1 image:").wait_for()
    page.mouse.move(*place(4, 4))
    page.wait_for_function("canvas => canvas.dataset.over === '3'", arg=canvas.element_handle())
    canvas.press("0")
    canvas.press("0")  # twice it would restart the kernel, were it JupyterLab's
    canvas.press("Enter")
    page.get_by_text("Selected 5 images").wait_for()
    canvas.press("Escape")
    page.get_by_text("All 5 images").wait_for()
    page.mouse.move(5, 5)  # off the map
    for key, row in (("n", 0), ("n", 1), ("p", 0), ("p", 4)):
        canvas.press(key)
        assert canvas.get_attribute("data-over") == str(row)
    assert page.locator(".jp-Dialog").count() == 0
    notebook.keep(canvas, "canvas")


def test_the_picture_ends_where_the_hand_does(open_notebook, lab):
    """No queue of stale pictures: after a quick drag the sentence tells the slider's last value, at once."""
    write(lab, "drag.ipynb", "import advcl_nb as adv", "adv.explore_frequency(adv.shapes(200, size=32))")
    notebook = open_notebook("drag.ipynb")
    notebook.run()
    page = notebook.page
    slider = page.locator(".widget-slider", has=page.locator(".widget-label", has_text="radius"))
    for share in (0.5, -0.4, 0.3):
        drag(page, slider, share)
        last = float(slider.locator(".widget-readout").inner_text())
        page.get_by_text(f"Radius {last:g} cycles per picture").wait_for(timeout=3000)


def test_the_stop_button_ends_a_running_loop(open_notebook, lab):
    """The kernel is busy with the loop when the click comes."""
    train = """from dataclasses import replace

import advcl_nb as adv

config = adv.preset("smoke")
images, _ = adv.load_data(config.data)
config = replace(config, pretrain=replace(config.pretrain, method="simclr", epochs=500))
state = adv.PretrainState.start(config)
rows = list(adv.watch(adv.pretrain_epochs(state, images, every=1)))"""
    write(lab, "stop.ipynb", train, "print('rows', len(rows), 'steps', state.step)")
    notebook = open_notebook("stop.ipynb")
    page = notebook.page
    page.evaluate("void window.jupyterapp.commands.execute('notebook:run-all-cells')")
    page.wait_for_function("document.querySelector('.widget-image')?.naturalWidth > 100")
    notebook.keep(page, "running")
    page.locator("button:has-text('Stop')").first.click()
    page.locator(".jp-OutputArea-output", has_text="rows").last.wait_for()
    told = page.locator(".jp-OutputArea-output pre", has_text="rows").last.inner_text()
    rows, steps = map(int, re.fullmatch(r"rows (\d+) steps (\d+)\s*", told).groups())
    assert rows == steps < 500 * 2
    page.locator("button:has-text('Stopped')").first.wait_for()
    notebook.keep(page, "stopped")


def write(lab, name, *sources):
    """Put a notebook of these cells into JupyterLab's folder."""
    kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    cells = [new_code_cell(source) for source in sources]
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel}), lab[1] / name)
