"""Still images: their pixels are Pillow's, upright, whatever the kind of file and of pixel."""

import itertools
import logging
import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from vqathinker_verl.frames import FrameSpec, VideoError, decode, probe, video_tokens
from vqathinker_verl.frames.suffixes import IMAGE_SUFFIXES, VIDEO_SUFFIXES, is_image

HEIGHT, WIDTH = 32, 48
ORIENTATION = 274  # EXIF's tag
SAME = FrameSpec(4, factor=1)  # nothing is resized


def picture(seed=0):
    """Noise over a gradient, RGB (H, W, 3): no row, column or corner equals another."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    noise = np.random.default_rng(seed).integers(0, 40, (HEIGHT, WIDTH, 3))
    return (np.stack([4 * x, 5 * y, 2 * (x + y)], axis=-1) + noise).astype(np.uint8)


def shown(path, spec=SAME):
    """The one picture that a model sees of an image, (H, W, 3)."""
    video = decode(path, spec)
    assert len(video.frames) == spec.image_frames
    assert all(np.array_equal(frame, video.frames[0]) for frame in video.frames)
    return video.frames[0].transpose(1, 2, 0)


def saved(path, image, **options):
    image.save(path, **options)
    return path


class TestOneFrame:
    @pytest.mark.parametrize("name", ["x.png", "x.jpg", "X.JPEG", "x.webp", "x.bmp", "x.tif", "x.TIFF"])
    def test_the_pixels_are_pillows(self, tmp_path, name):
        path = saved(tmp_path / name, Image.fromarray(picture()))
        info = probe(path)
        assert (info.total_frames, info.height, info.width, info.fps) == (1, HEIGHT, WIDTH, 1.0)
        with Image.open(path) as image:
            expected = np.asarray(image.convert("RGB"))
        np.testing.assert_array_equal(shown(path), expected)
        lossless = path.suffix.lower() not in (".jpg", ".jpeg", ".webp")
        assert np.array_equal(expected, picture()) == lossless

    @pytest.mark.parametrize("image_frames", [1, 2])
    def test_it_is_shown_as_often_as_the_temporal_patch_has_frames(self, tmp_path, image_frames):
        path = saved(tmp_path / "x.png", Image.fromarray(picture()))
        video = decode(path, FrameSpec(12, size=(28, 56), image_frames=image_frames))
        assert video.frames.shape == (image_frames, 3, 28, 56)
        assert video.indices.tolist() == [0] * image_frames
        assert (video.total_frames, video.fps, video.backend) == (1, 1.0, "pillow")
        assert not video.frames.flags.writeable
        expected = Image.fromarray(picture()).resize((56, 28), Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(video.frames[-1].transpose(1, 2, 0), np.asarray(expected))

    def test_a_decoder_of_choice_changes_nothing(self, tmp_path):
        path = saved(tmp_path / "x.png", Image.fromarray(picture()))
        frames = [decode(path, SAME, decoder=decoder).frames for decoder in ("auto", "pyav", "decord")]
        assert all(np.array_equal(one, frames[0]) for one in frames)

    def test_the_suffix_tells_images_from_videos(self):
        assert all(is_image(Path("folder.mp4", f"a{suffix.upper()}")) for suffix in IMAGE_SUFFIXES)
        assert not any(is_image(f"a.png{suffix}") for suffix in VIDEO_SUFFIXES - IMAGE_SUFFIXES)
        assert not is_image(".png")

    def test_the_spec_and_the_tokens_count_its_frames(self, tmp_path):
        path = saved(tmp_path / "x.png", Image.fromarray(picture()))
        spec = FrameSpec(12, size=(56, 56), image_frames=2)
        assert (spec.frames_of(path), spec.frames_of("x.mp4")) == (2, 12)
        assert video_tokens(probe(path), spec) == 4  # one temporal patch of 2 x 2 tokens
        with pytest.raises(ValueError, match="image_frames: expected at least 1, got 0"):
            FrameSpec(12, image_frames=0)


class TestUpright:
    @pytest.mark.parametrize(
        ("name", "orientation"), itertools.product(["x.jpg", "x.png", "x.webp", "x.tif"], range(1, 9))
    )
    def test_the_exif_orientation_is_applied(self, tmp_path, name, orientation):
        image = Image.fromarray(picture())
        exif = image.getexif()
        exif[ORIENTATION] = orientation
        lossless = {"lossless": True} if name == "x.webp" else {}
        path = saved(tmp_path / name, image, exif=exif, **lossless)
        with Image.open(path) as stored:
            expected = np.asarray(ImageOps.exif_transpose(stored))
        np.testing.assert_array_equal(shown(path), expected)
        info = probe(path)
        assert (info.height, info.width) == expected.shape[:2]
        # The eight of EXIF, by hand: which corner of what is stored comes to the upper left, and along which side.
        turned = {
            1: lambda a: a,
            2: lambda a: a[:, ::-1],
            3: lambda a: a[::-1, ::-1],
            4: lambda a: a[::-1],
            5: lambda a: a.transpose(1, 0, 2),
            6: lambda a: np.rot90(a, -1),
            7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
            8: lambda a: np.rot90(a, 1),
        }[orientation]
        if name == "x.jpg":
            assert np.abs(shown(path).astype(int) - turned(picture())).mean() < 20
            return
        np.testing.assert_array_equal(shown(path), turned(picture()))

    def test_an_orientation_that_exif_does_not_know_is_none(self, tmp_path):
        image = Image.fromarray(picture())
        exif = image.getexif()
        exif[ORIENTATION] = 99
        np.testing.assert_array_equal(shown(saved(tmp_path / "x.png", image, exif=exif)), picture())


class TestKindsOfPixels:
    @pytest.mark.parametrize("name", ["x.png", "x.bmp", "x.tif", "x.jpg"])
    def test_grey(self, tmp_path, name):
        path = saved(tmp_path / name, Image.fromarray(picture()).convert("L"))
        found = shown(path)
        assert np.array_equal(found[..., 0], found[..., 1])
        with Image.open(path) as image:
            np.testing.assert_array_equal(found[..., 2], np.asarray(image))

    def test_black_and_white(self, tmp_path):
        image = Image.fromarray(picture()).convert("1")
        np.testing.assert_array_equal(shown(saved(tmp_path / "x.png", image))[..., 0], 255 * np.asarray(image))

    @pytest.mark.parametrize("name", ["x.png", "x.bmp", "x.tif"])
    def test_a_palette(self, tmp_path, name):
        image = Image.fromarray(picture()).quantize(16)
        np.testing.assert_array_equal(shown(saved(tmp_path / name, image)), np.asarray(image.convert("RGB")))

    def test_cmyk(self, tmp_path):
        path = saved(tmp_path / "x.jpg", Image.fromarray(picture()).convert("CMYK"), quality=100)
        assert np.abs(shown(path).astype(int) - picture()).mean() < 3

    @pytest.mark.parametrize("name", ["x.png", "x.webp", "x.tif"])
    def test_transparency_is_shown_on_white(self, tmp_path, name):
        alpha = np.full((HEIGHT, WIDTH, 1), 255, np.uint8)
        alpha[:8], alpha[8:16] = 0, 128
        image = Image.fromarray(np.concatenate([picture(), alpha], axis=-1))
        lossless = {"lossless": True} if name == "x.webp" else {}
        found = shown(saved(tmp_path / name, image, **lossless))
        assert (found[:8] == 255).all()
        half = (picture()[8:16].astype(float) * 128 + 255.0 * 127) / 255
        assert np.abs(found[8:16] - half).max() <= 1
        np.testing.assert_array_equal(found[16:], picture()[16:])

    def test_a_transparent_colour_of_a_palette_is_white(self, tmp_path):
        image = Image.fromarray(picture()).quantize(16)
        path = saved(tmp_path / "x.png", image, transparency=3)
        found, places = shown(path), np.asarray(image)
        assert (found[places == 3] == 255).all()
        np.testing.assert_array_equal(found[places != 3], np.asarray(image.convert("RGB"))[places != 3])

    @pytest.mark.parametrize("name", ["x.png", "x.tif"])
    def test_16_bits_of_grey_are_rounded_to_8(self, tmp_path, name):
        values = np.linspace(0, 65535, HEIGHT * WIDTH).astype(np.uint16).reshape(HEIGHT, WIDTH)
        found = shown(saved(tmp_path / name, Image.fromarray(values)))
        np.testing.assert_array_equal(found[..., 0], np.round(values / 257))
        np.testing.assert_array_equal(found[..., 0], found[..., 2])

    @pytest.mark.parametrize("compression", [None, "tiff_lzw"])
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    def test_a_grey_tiff_is_turned_upright(self, tmp_path, dtype, compression):
        """Pillow 13 cuts the rows of an uncompressed one at the wrong length where it opens the file itself."""
        highest = np.iinfo(dtype).max
        values = np.linspace(0, highest, HEIGHT * WIDTH).astype(dtype).reshape(HEIGHT, WIDTH)
        image = Image.fromarray(values)
        exif = image.getexif()
        exif[ORIENTATION] = 6
        path = saved(tmp_path / "x.tif", image, exif=exif, compression=compression)
        np.testing.assert_array_equal(shown(path)[..., 0], np.round(np.rot90(values, -1) / (highest / 255)))

    def test_16_bits_of_colour(self, tmp_path):
        """PyAV encodes them: Pillow cannot."""
        import av

        wide = picture().astype(np.uint16) * 257
        codec = av.CodecContext.create("png", "w")
        codec.width, codec.height, codec.pix_fmt, codec.time_base = WIDTH, HEIGHT, "rgb48be", Fraction(1)
        frame = av.VideoFrame.from_ndarray(wide, format="rgb48le").reformat(format="rgb48be")
        (tmp_path / "x.png").write_bytes(b"".join(map(bytes, [*codec.encode(frame), *codec.encode()])))
        np.testing.assert_array_equal(shown(tmp_path / "x.png"), picture())

    @pytest.mark.parametrize("mode", ["F", "I"])
    def test_32_bits_are_refused(self, tmp_path, mode):
        path = saved(tmp_path / "x.tif", Image.fromarray(picture()).convert("L").convert(mode))
        for read in (probe, lambda path: decode(path, SAME)):
            with pytest.raises(VideoError, match=r"x\.tif: 32 bits per pixel, .* expected 8 or 16 bits"):
                read(path)


class TestSeveralPictures:
    @pytest.mark.parametrize("name", ["x.webp", "x.png"])
    def test_an_animation_is_refused(self, tmp_path, name):
        pictures = [Image.fromarray(picture(seed)) for seed in range(3)]
        path = saved(tmp_path / name, pictures[0], save_all=True, append_images=pictures[1:], duration=40)
        for read in (probe, lambda path: decode(path, SAME)):
            with pytest.raises(VideoError, match=r"an animation of 3 pictures; .* convert it to a video"):
                read(path)

    def test_the_first_page_of_a_tiff_is_read_and_that_is_logged(self, tmp_path, caplog):
        pictures = [Image.fromarray(picture(seed)) for seed in range(3)]
        path = saved(tmp_path / "x.tif", pictures[0], save_all=True, append_images=pictures[1:])
        with caplog.at_level(logging.WARNING):
            np.testing.assert_array_equal(shown(path), picture(0))
        assert "x.tif: holds 3 pages; the first is read" in caplog.text

    def test_the_main_picture_of_a_phones_jpeg_is_read(self, tmp_path, caplog):
        pictures = [Image.fromarray(picture(seed)) for seed in range(2)]
        path = saved(tmp_path / "x.jpg", pictures[0], format="MPO", save_all=True, append_images=pictures[1:])
        with Image.open(path) as image:
            assert image.format == "MPO"
            expected = np.asarray(image)
        np.testing.assert_array_equal(shown(path), expected)
        assert caplog.text == ""

    def test_a_gif_is_a_video(self, tmp_path):
        pictures = [Image.fromarray(picture(seed)) for seed in range(3)]
        path = saved(tmp_path / "x.gif", pictures[0], save_all=True, append_images=pictures[1:], duration=40)
        assert probe(path).total_frames == 3
        assert len(decode(path, FrameSpec(4, factor=1, image_frames=2)).frames) == 4


class TestFaults:
    @pytest.mark.parametrize("name", ["x.jpg", "x.png", "x.webp", "x.tif", "x.bmp"])
    def test_a_cut_off_image_is_refused(self, tmp_path, name):
        path = saved(tmp_path / name, Image.fromarray(picture()))
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])
        for read in (probe, lambda path: decode(path, SAME)):
            with pytest.raises(VideoError, match=rf"{name}: cannot be decoded .* expected an image"):
                read(path)

    @pytest.mark.parametrize(
        "content", [b"junk", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n", b"P6 1 1 255 abc"]
    )
    def test_what_is_no_image_of_these_kinds_is_refused(self, tmp_path, content):
        """Also what Pillow would open: PostScript would be run by another program."""
        path = tmp_path / "x.png"
        path.write_bytes(content)
        with pytest.raises(
            VideoError, match=r"x\.png: cannot be decoded \(no image of the kinds BMP, JPEG, PNG, TIFF, WEBP\)"
        ):
            probe(path)

    def test_missing_and_empty(self, tmp_path):
        with pytest.raises(VideoError, match=r"none\.png: cannot be opened"):
            probe(tmp_path / "none.png")
        (tmp_path / "empty.png").touch()
        with pytest.raises(VideoError, match=r"empty\.png: the file is empty"):
            decode(tmp_path / "empty.png", SAME)

    def test_a_size_that_would_fill_the_memory(self, tmp_path):
        path = saved(tmp_path / "x.bmp", Image.fromarray(picture()))
        data = bytearray(path.read_bytes())
        data[18:26] = struct.pack("<ii", 20000, 20000)
        path.write_bytes(data)
        with pytest.raises(
            VideoError, match=r"x\.bmp: cannot be decoded \(Image size \(400000000 pixels\) exceeds limit"
        ):
            probe(path)

    def test_too_flat(self, tmp_path):
        path = saved(tmp_path / "x.png", Image.new("RGB", (900, 4)))
        with pytest.raises(VideoError, match=r"x\.png: expected an aspect ratio of at most 200"):
            decode(path, FrameSpec(4))
