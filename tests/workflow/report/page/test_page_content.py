"""What stands on the page, what may not stand there, and what is refused."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys

import pytest

from custom_networks import __main__ as users
from custom_networks.workflow.report.page.write import ASSETS, NIIVUE, write_report
from tests.page.folders import (
    head_record,
    record,
    write_classification,
    write_curve,
    write_evaluation,
    write_prediction,
)
from tests.processes import environment
from tests.synthetic import ROOT

ATTACK = "<script>alert(1)</script> & \"'"
# what a browser would fetch, wherever it stands
LOADS = re.compile(r"""\s(?:src|href|action|poster|srcset)=(?!["'](?:data:|#))|\burl\(|@import|https?://""")


def parts(text: str) -> str:
    """Return a page without the texts of the licences and the packed viewer, which is data until it is asked for."""
    text = re.sub(r"<pre>.*?</pre>", "", text, flags=re.DOTALL)
    return re.sub(r'<script type="application/gzip".*?</script>', "", text, flags=re.DOTALL)


@pytest.fixture
def prediction(tmp_path):
    folder = tmp_path / "result"
    warning = {"kind": "pieces", "structure": "front", "text": "front has 3 pieces."}
    return write_prediction(folder, record(folder, "one"), record(folder, "two", warnings=[warning]))


def test_a_prediction(prediction):
    text = write_report(prediction).read_text()
    assert text.count("<h3>one</h3>") == text.count("<h3>two</h3>") == 1
    assert "<strong>Warning:</strong> front has 3 pieces." in text
    assert "Research only, for boxes." in text and "Boxes in noise 0.1.0" in text
    assert text.count('class="outline"') == 2 * (2 + 2 + 2) - 2  # the coronal plane cuts the front alone
    assert "larger than 14 of 20" in text  # 8 x 6 x 8 voxels of 3 mm3 are 1.152 mL
    assert text.count("Open the viewer") == 2
    assert text.count("<svg") == text.count("</svg>")
    assert str(prediction.parent) not in text
    assert str(prediction.parent / "images" / "one.nii.gz") in write_report(prediction, show_names=True).read_text()


def test_a_head_beside_a_crop(tmp_path):
    folder = tmp_path / "result"
    text = write_report(write_prediction(folder, record(folder, "crop"), head_record(folder, "whole"))).read_text()
    crop, head = text.split('<article class="card case"')[1:]
    assert "asymmetry -12.3 % (Left less Right, of their mean)" in head and "asymmetry" not in crop
    assert "research only, not for diagnosis" in head
    assert re.findall(r"<figcaption>([^<]+)<", head) == ["axial", "coronal", "sagittal, Left", "sagittal, Right"]
    assert set(re.findall(r"<title>([^<]+)</title>", head)) == {"Left-front", "Right-front"}
    assert set(re.findall(r"<title>([^<]+)</title>", crop)) >= {"front", "back"}
    assert "Left-front" not in re.sub(r"<script.*?</script>", "", crop, flags=re.DOTALL)
    assert "larger than 14 of 20" in head  # Left-front is a front, of which the training cases are known
    (row,) = re.findall(r'<th scope="row"><a href="#case-2">whole</a></th>(.*?)</tr>', text)
    assert re.findall(r"<td>([^<]*)</td>", row)[1:3] == ["", ""]  # of the crop's classes
    legend = re.search(r'aria-label="Colours">(.*?)</ul>', text)[1]
    assert "Left-front" in legend and "Total" not in legend and ">Left<" not in legend


def test_nothing_is_known_of_the_training(tmp_path):
    folder = tmp_path / "result"
    write_prediction(folder, record(folder, "one"), known=False)
    assert "Nothing is known of the volumes of the training cases." in write_report(folder).read_text()
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"weights": "of others", "volumes_ml": {"front": [0.5, 2.0]}}))
    assert "larger than 1 of 2" in write_report(folder, reference=other).read_text()
    shutil.copyfile(other, tmp_path / "models" / "training_data.json")
    assert "belongs to other weights" in write_report(folder).read_text()


def test_every_name_is_inert(tmp_path):
    folder = tmp_path / "result"
    warning = {"kind": "size", "structure": None, "text": ATTACK}
    evil = {**record(folder, "one"), "case": ATTACK, "warnings": [warning]}
    evil["structures"][0]["name"] = ATTACK
    text = write_report(write_prediction(folder, evil)).read_text()
    assert "alert(1)" in text
    assert "<script>alert" not in text and ATTACK not in text
    scripts = re.findall(r"<script([^>]*)>", text)
    assert sorted(scripts) == ["", ' type="application/gzip" id="niivue"', ' type="application/json"']


def test_nothing_is_loaded_from_elsewhere(prediction, tmp_path):
    for folder in (prediction, write_evaluation(tmp_path / "eval"), write_classification(tmp_path / "classes")):
        text = parts(write_report(write_curve(folder)).read_text())
        assert LOADS.findall(text) == []
        assert "default-src 'none'" in text


def test_the_policy_lets_the_own_script_run(prediction):
    import base64
    import hashlib

    text = write_report(prediction).read_text()
    script = re.search(r"<script>(.*)</script>\n</body>", text, re.DOTALL)[1]
    assert f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" in text


def test_no_name_from_dicom(tmp_path):
    folder = tmp_path / "result"
    warning = {"kind": "size", "structure": None, "text": "DOE_JOHN of 1.2.840.99 is small."}
    hidden = record(folder, "DOE_JOHN", image=[str(tmp_path / "DOE_JOHN")], series="1.2.840.99", warnings=[warning])
    write_prediction(folder, record(folder, "one"), hidden)
    (folder / "attention_maps").mkdir()
    (folder / "attention_maps" / "DOE_JOHN_gate.png").write_bytes(b"png")
    text = write_report(folder).read_text()
    assert "DOE_JOHN" not in text and "1.2.840" not in text
    assert "case 2 of case 2 is small." in text
    assert "The pictures of attention maps are left out" in text
    assert "DOE_JOHN_gate" in write_report(folder, show_names=True).read_text()


def test_an_evaluation(tmp_path):
    text = write_report(write_evaluation(tmp_path / "eval")).read_text()
    assert re.findall(r"<h3>(\w+ case: \w+)</h3>", text) == [
        "Worst case: case_3",
        "Median case: case_1",
        "Best case: case_0",
    ]
    row = re.search(r'<th scope="row">[^\n]*front</th><td>4</td>(.*?)</tr>', text)[1]
    assert "<td>0.750</td>" in row and row.endswith('<td>0.600</td><td class="text">case_3</td>')
    assert text.count("Solid lines: reference. Dashed lines: prediction.") == 3
    # front differs by 0, 0.1, 0.2, 0.3 mL: mean 0.15, deviation 0.1291
    assert "Bias 0.150 mL, limits -0.103 to 0.403 mL, n = 4" in text
    assert "Bias 0.100 mL, limits -0.096 to 0.296 mL, n = 3" in text


def test_the_surface_dice_stands_with_its_tolerance_and_older_evaluations_have_none(tmp_path):
    folder = write_evaluation(tmp_path / "eval")
    text = write_report(folder).read_text()
    assert "share of the surfaces within 1.5 mm, 1 is perfect" in text
    assert re.search(r"NSD front.*NSD back", text)
    rows = [line.split(",") for line in (folder / "metrics.csv").read_text().splitlines()]
    (folder / "metrics.csv").write_text("\n".join(",".join(row[:3] + row[4:]) for row in rows) + "\n")
    summary = json.loads((folder / "metrics.json").read_text())
    del summary["surface_tolerance_mm"]
    (folder / "metrics.json").write_text(json.dumps(summary))
    older = write_report(folder).read_text()
    assert "surface Dice" not in parts(older) and "NSD" not in parts(older)
    assert "HD95 front" in parts(older) and "Bias 0.150 mL" in parts(older)


def test_volumes_of_what_is_only_predicted_count(tmp_path):
    folder = write_evaluation(tmp_path / "eval")
    table = (folder / "metrics.csv").read_text()
    (folder / "metrics.csv").write_text(table.replace("nan,0,0\n", "nan,0,500\n"))
    # differences of 0, 0.1, 0.2 and 0.5 mL
    assert "Bias 0.200 mL, limits -0.223 to 0.623 mL, n = 4" in write_report(folder).read_text()


def test_an_evaluation_without_masks_or_files(tmp_path):
    folder = write_evaluation(tmp_path / "eval", masks=False)
    text = write_report(folder).read_text()
    assert text.count("The reference alone: the folder holds no mask of this case.") == 3
    assert "dashed" not in re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL).replace("and, dashed,", "")
    summary = json.loads((folder / "metrics.json").read_text())
    (folder / "metrics.json").write_text(json.dumps({k: v for k, v in summary.items() if k not in ("files", "values")}))
    assert write_report(folder).read_text().count("metrics.json does not say where the image is") == 3


def test_a_classification(tmp_path):
    text = write_report(write_classification(tmp_path / "classes")).read_text()
    assert text.count('<strong class="wrong">wrong</strong>') == 1
    assert "<td>0.500 to 1.000</td>" in text
    assert "niivue" not in parts(text).replace(NIIVUE, "").partition("<main")[2].partition("<script>")[0]
    alone = write_report(write_classification(tmp_path / "unlabelled", labelled=False)).read_text()
    assert "True class" not in alone and "wrong</strong>" not in alone and "<td>0.900</td>" in alone


def test_a_training(tmp_path):
    text = write_report(write_curve(tmp_path / "training")).read_text()
    assert "3 epochs, best validation metric 0.7000 in epoch 2." in text
    assert text.count("<polyline") == 2


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (None, "", r"holds no results \(volumes.json, metrics.json, predictions.csv or training_curve.csv\); give"),
        ("volumes.json", '{"images": []}', "is not what predict writes, it lacks bundles, intended_use; run predict"),
        (
            "volumes.json",
            '{"images": [{}], "bundles": [], "intended_use": ""}',
            "it lacks structures, case, image, series",
        ),
        ("volumes.json", "[]", "is not a JSON object"),
        ("metrics.json", "{}", "holds no results"),
        ("metrics.json", '{"mean": 1}', "is not what an evaluation writes; evaluate again"),
        ("training_curve.csv", "a,b\n1,2\n", "is no training curve; remove it"),
        ("predictions.csv", "", "is not what an evaluation writes"),
    ],
)
def test_what_is_no_result_is_refused(tmp_path, name, content, message):
    if name:
        (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_half_an_evaluation_is_refused(tmp_path):
    folder = write_evaluation(tmp_path / "eval", cases=1)
    table = (folder / "metrics.csv").read_text()
    (folder / "metrics.csv").write_text(table.replace("front", "side"))
    with pytest.raises(ValueError, match="has other classes than the metrics"):
        write_report(folder)
    (folder / "metrics.csv").write_text(table.replace("0.9", "x"))
    with pytest.raises(ValueError, match="are not what an evaluation writes"):
        write_report(folder)
    (folder / "metrics.csv").unlink()
    with pytest.raises(FileNotFoundError, match="there is no file"):
        write_report(folder)
    (write_classification(tmp_path / "classes") / "predictions.csv").unlink()
    with pytest.raises(FileNotFoundError, match="there is no file"):
        write_report(tmp_path / "classes")


def test_the_command(prediction, capsys):
    assert users.main(["report", str(prediction), "--show-names"]) == 0
    assert re.match(r"written: .*report.html \(\d\.\d MB\)\n", capsys.readouterr().out)
    assert users.main(["report", str(prediction / "none")]) == 1
    assert "error: there is no folder" in capsys.readouterr().err


def test_no_torch_for_a_page(prediction):
    script = (
        "import sys; from custom_networks.workflow.report.page.command import report\n"
        "assert 'jinja2' not in sys.modules and 'numpy' not in sys.modules\n"
        f"report({str(prediction)!r})\nassert not {{'torch', 'monai', 'matplotlib'}} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=environment(), check=True, capture_output=True)


def test_the_viewer_is_the_one_that_its_licences_name():
    import hashlib

    content = (ASSETS / NIIVUE).read_bytes()
    said = (ASSETS / "NIIVUE_LICENSES.txt").read_text()
    assert f"{len(content)} bytes, sha256 {hashlib.sha256(content).hexdigest()}." in said
