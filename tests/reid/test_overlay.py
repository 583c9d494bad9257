"""The drawing: its colours against their formula, and its pixels where the arithmetic says they are."""

import io

import numpy as np
import pytest
from PIL import Image

from app.reid.explain import Explanation, Link, PhotoBox
from app.reid.overlay import MAX_SIDE, Panel, diverging, draw_overlay, thumbnail
from app.reid.spec import PreprocessSpec

WHOLE = PhotoBox(0, 0, 2, 2)
MAP = np.array([[1.0, 0.0], [-1.0, 0.5]])
FLAT = Explanation(0.5, MAP, MAP.T * 0.5, ())
BLUE, GREY, RED = (59, 76, 192), (221, 221, 221), (180, 4, 38)


def opened(data):
    picture = Image.open(io.BytesIO(data))
    assert (picture.format, picture.mode) == ("PNG", "RGB")
    return np.asarray(picture).astype(int)


def plain(size=(100, 100), colour=(100, 100, 100)):
    return Image.new("RGB", size, colour)


class TestColours:
    """Moreland 2009: polar CIELAB (Msh), both ends at M = 80, s = 1.08, h = -1.1 and 0.5, M = 88 in the middle."""

    @staticmethod
    def to_srgb(m, s, h):
        lab = np.array([m * np.cos(s), m * np.sin(s) * np.cos(h), m * np.sin(s) * np.sin(h)])
        fy = (lab[0] + 16) / 116
        f = np.array([fy + lab[1] / 500, fy, fy - lab[2] / 200])
        xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * [0.95047, 1.0, 1.08883]
        linear = (
            np.linalg.inv(
                [
                    [0.4124564, 0.3575761, 0.1804375],
                    [0.2126729, 0.7151522, 0.0721750],
                    [0.0193339, 0.1191920, 0.9503041],
                ]
            )
            @ xyz
        )
        coded = np.where(linear > 0.0031308, 1.055 * np.clip(linear, 0, 1) ** (1 / 2.4) - 0.055, 12.92 * linear)
        return np.clip(coded, 0, 1) * 255

    def formula(self, value):
        """Value in [-1, 1]. The middle's hue is turned so that the path stays even (Moreland's `AdjustHue`)."""
        m, s, middle = 80.0, 1.08, 88.0
        spin = s * np.sqrt(middle**2 - m**2) / (m * np.sin(s))
        hue = -1.1 if value < 0 else 0.5
        turned = hue - spin if value < 0 and hue <= -np.pi / 3 else hue + spin if hue > -np.pi / 3 else hue - spin
        share = abs(value)
        return self.to_srgb(middle + share * (m - middle), share * s, turned + share * (hue - turned))

    def test_the_table_is_the_formula(self):
        for value in np.linspace(-1, 1, 33):
            np.testing.assert_allclose(diverging(np.array([value]))[0], self.formula(value), atol=2)

    def test_between_the_tables_values(self):
        """Straight lines between 33 values come within 4 of 255, farthest in the green of the darkest red."""
        for value in np.random.default_rng(0).uniform(-1, 1, 200):
            np.testing.assert_allclose(diverging(np.array([value]))[0], self.formula(value), atol=4)

    def test_ends_and_middle(self):
        assert diverging(np.array([-1.0, 0.0, 1.0])).tolist() == [list(BLUE), list(GREY), list(RED)]

    def test_any_shape(self):
        assert diverging(np.zeros((3, 4))).shape == (3, 4, 3)
        assert diverging(np.zeros((3, 4))).dtype == np.uint8


class TestThumbnail:
    @pytest.mark.parametrize(
        ("size", "expected"),
        [((3_000, 2_000), (512, 341)), ((40, 80), (256, 512)), ((1, 9_000), (1, 512)), ((512, 512), (512, 512))],
    )
    def test_its_longer_side_is_512(self, size, expected):
        assert thumbnail(plain(size), PreprocessSpec()).size == expected
        assert max(expected) == MAX_SIDE

    def test_cut_outs_lie_on_the_background(self):
        spec = PreprocessSpec(background=(10, 200, 30))
        cut_out = Image.new("RGBA", (600, 600), (250, 250, 250, 0))  # white below alpha 0 does not bleed in
        cut_out.paste((90, 80, 70, 255), (0, 0, 300, 600))
        small = np.asarray(thumbnail(cut_out, spec))
        assert small[256, 20].tolist() == [90, 80, 70]
        assert small[256, 500].tolist() == [10, 200, 30]
        assert small.max() <= 201


class TestOverlay:
    def test_cells_have_the_colour_of_their_value(self):
        """Opaque maps, on one scale: 1.0 is the largest of both."""
        picture = opened(draw_overlay(FLAT, Panel(plain(), WHOLE), Panel(plain(), WHOLE), opacity=1.0))
        left = (520 - 216) // 2
        assert picture[20, left + 20].tolist() == list(RED)
        assert picture[20, left + 80].tolist() == list(GREY)
        assert picture[80, left + 20].tolist() == list(BLUE)
        half = diverging(np.array([0.5]))[0].tolist()
        assert picture[80, left + 80].tolist() == half
        right = left + 116
        assert picture[20, right + 20].tolist() == half
        assert picture[20, right + 80].tolist() == diverging(np.array([-0.5]))[0].tolist()

    def test_cells_change_at_their_edges(self):
        """A photo of which a quarter of the grid's width is padding at either side: half of it is each column's."""
        padded = Panel(plain((80, 40)), PhotoBox(0.5, 0, 1.5, 2))
        picture = opened(draw_overlay(FLAT, padded, Panel(plain((80, 40)), WHOLE), opacity=1.0))
        left = (520 - 176) // 2
        assert (picture[5, left : left + 40] == RED).all()
        assert (picture[5, left + 40 : left + 80] == GREY).all()
        assert (picture[19, left : left + 40] == RED).all()
        assert (picture[20, left : left + 40] == BLUE).all()

    @pytest.mark.parametrize("opacity", [0.0, 0.25, 1.0])
    def test_opacity_mixes(self, opacity):
        picture = opened(draw_overlay(FLAT, Panel(plain(), WHOLE), Panel(plain(), WHOLE), opacity=opacity))
        expected = (1 - opacity) * 100 + opacity * np.array(RED)
        np.testing.assert_allclose(picture[20, (520 - 216) // 2 + 20], expected, atol=1)

    def test_photos_stand_side_by_side_each_in_the_middle(self):
        tall, flat = Panel(plain((100, 512), (0, 0, 250)), WHOLE), Panel(plain((512, 64), (0, 250, 0)), WHOLE)
        picture = opened(draw_overlay(FLAT, tall, flat, opacity=0.0))
        assert picture.shape == (512 + 40, 100 + 16 + 512, 3)
        blue, green = ((picture == colour).all(axis=2) for colour in ((0, 0, 250), (0, 250, 0)))
        assert blue.sum() == 100 * 512
        assert green.sum() == 512 * 64
        assert np.flatnonzero(green.any(axis=1))[[0, -1]].tolist() == [224, 287]

    def test_links_run_between_their_places(self):
        """From the middle of the query's upper left cell to the middle of the gallery's lower right one."""
        linked = Explanation(0.5, MAP, MAP, (Link(0.3, (0, 0), (1, 1)), Link(-0.1, (1, 0), (1, 0))))
        ends = Panel(plain(), WHOLE), Panel(plain(), WHOLE)
        bare = opened(draw_overlay(Explanation(0.5, MAP, MAP, ()), *ends, opacity=0.0))
        drawn = opened(draw_overlay(linked, *ends, opacity=0.0))
        left = (520 - 216) // 2
        start, end = np.array([25, left + 25]), np.array([75, left + 116 + 75])
        for share in np.linspace(0, 1, 21):
            row, column = np.rint(start + share * (end - start)).astype(int)
            red, _, blue = drawn[row, column]
            assert red > blue
        red, _, blue = drawn[75, left + 108]  # between the photos, on the second link
        assert blue > red
        changed = (bare != drawn).any(axis=2)
        assert not changed[:15].any()
        assert not changed[90:].any()

    def test_a_link_into_padding_is_not_drawn(self):
        padded = Panel(plain((50, 100)), PhotoBox(1, 0, 2, 2))
        ends = padded, Panel(plain(), WHOLE)
        bare = draw_overlay(Explanation(0.5, MAP, MAP, ()), *ends)
        into_padding = Explanation(0.5, MAP, MAP, (Link(0.3, (0, 0), (1, 1)),))
        np.testing.assert_array_equal(opened(draw_overlay(into_padding, *ends)), opened(bare))
        inside = Explanation(0.5, MAP, MAP, (Link(0.3, (0, 1), (1, 1)),))
        assert (opened(draw_overlay(inside, *ends)) != opened(bare)).any()

    def test_nothing_at_all_is_grey(self):
        zeros = np.zeros((2, 2))
        nothing = Explanation(0.0, zeros, zeros, (Link(0.0, (0, 0), (0, 0)),))
        picture = opened(draw_overlay(nothing, Panel(plain(), WHOLE), Panel(plain(), WHOLE), opacity=1.0))
        assert picture[80, (520 - 216) // 2 + 80].tolist() == list(GREY)

    def test_the_same_again(self):
        ends = Panel(plain(), WHOLE), Panel(plain((64, 200)), WHOLE)
        linked = Explanation(0.5, MAP, MAP, (Link(0.3, (0, 0), (1, 1)),))
        assert draw_overlay(linked, *ends) == draw_overlay(linked, *ends)

    @pytest.mark.parametrize("opacity", [-0.1, 1.1, float("nan")])
    def test_opacity_has_a_range(self, opacity):
        with pytest.raises(ValueError, match="opacity must be 0 to 1"):
            draw_overlay(FLAT, Panel(plain(), WHOLE), Panel(plain(), WHOLE), opacity=opacity)
