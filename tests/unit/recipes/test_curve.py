import json

import pytest

from recipes.curve import agreement_at, compare, main, read_curve
from vocabtrim.core.errors import ArtifactError


def curve(*agreement: float, apart: int = 40_000):
    return [
        {"visits": apart * number, "agreement": [one, one / 2]}
        for number, one in enumerate(agreement)
    ]


def write(path, points):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(one) + "\n" for one in points))
    return path


def test_agreement_is_read_between_two_points():
    points = curve(0.0, 0.1, 0.2)
    assert agreement_at(points, 60_000) == pytest.approx([0.15, 0.075])
    assert agreement_at(points, 80_000) == pytest.approx([0.2, 0.1])
    with pytest.raises(ArtifactError, match="ends at 80000 of 80001"):
        agreement_at(points, 80_001)


def test_curves_are_compared_where_both_are():
    rows = compare(curve(0.0, 0.1, 0.3, 0.9, apart=30_000), curve(0.0, 0.2))
    assert [visits for visits, _, _ in rows] == [0, 30_000]
    assert rows[1][1] == [0.1, 0.05]
    assert rows[1][2] == pytest.approx([0.15, 0.075])
    with pytest.raises(ArtifactError, match="no number of visits in common"):
        compare(curve(0.1, 0.2), [])


def test_the_decayed_curve_of_a_work_directory_counts(tmp_path):
    write(tmp_path / "constant" / "curve.jsonl", curve(0.1, 0.2))
    assert read_curve(tmp_path)[1]["agreement"][0] == 0.2
    write(tmp_path / "decayed" / "curve.jsonl", curve(0.1, 0.2, 0.4))
    (tmp_path / "decayed" / "drafter").mkdir()
    assert len(read_curve(tmp_path)) == 3


@pytest.mark.parametrize(("mine", "status"), [(0.219, 0), (0.221, 1), (0.179, 1)])
def test_two_points_apart_is_too_far(tmp_path, capsys, mine, status):
    theirs = write(tmp_path / "theirs.jsonl", curve(0.1, 0.2, 0.9))
    assert main([str(write(tmp_path / "mine.jsonl", curve(0.1, mine))), str(theirs)]) == status
    assert f"furthest apart: {100 * abs(mine - 0.2):.2f} points" in capsys.readouterr().out


def test_what_is_no_curve_is_refused(tmp_path, capsys):
    theirs = write(tmp_path / "theirs.jsonl", curve(0.1, 0.2))
    assert main([str(tmp_path / "nothing"), str(theirs)]) == 2
    assert "has no learning curve in it" in capsys.readouterr().err
    rows = write(tmp_path / "rows.jsonl", [{"text": "no curve"}])
    assert main([str(rows), str(theirs)]) == 2
    assert "is no learning curve" in capsys.readouterr().err
    short = write(tmp_path / "short.jsonl", [{"visits": 0, "agreement": [0.1]}])
    assert main([str(short), str(theirs)]) == 2
    assert "one curve has 1 steps, the other 2" in capsys.readouterr().err
