"""msksam: batch segmentation of musculoskeletal MRI with the Segment Anything Model."""

__version__ = "0.1.0"
