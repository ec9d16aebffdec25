from __future__ import annotations

from dataclasses import replace

import numpy as np

from msksam_cli.embeddings import Embedding, EmbeddingKey, MemoryStore

PIXELS = np.arange(30, dtype=np.uint8).reshape(5, 6)
KEY = EmbeddingKey.of_slice(PIXELS, "encoder", "v1", "fp32")


def test_a_key_depends_on_pixels_shape_encoder_rules_and_precision():
    keys = [
        KEY,
        EmbeddingKey.of_slice(PIXELS.reshape(6, 5), "encoder", "v1", "fp32"),
        EmbeddingKey.of_slice(PIXELS.T, "encoder", "v1", "fp32"),
        EmbeddingKey.of_slice(PIXELS + 1, "encoder", "v1", "fp32"),
        EmbeddingKey.of_slice(PIXELS, "other", "v1", "fp32"),
        EmbeddingKey.of_slice(PIXELS, "encoder", "v2", "fp32"),
        EmbeddingKey.of_slice(PIXELS, "encoder", "v1", "bf16"),
    ]
    assert len({key.digest for key in keys}) == len(keys)
    assert all(len(key.digest) == 64 for key in keys)


def test_a_key_depends_on_values_and_not_on_how_they_lie_in_memory():
    assert EmbeddingKey.of_slice(np.asfortranarray(PIXELS), "encoder", "v1", "fp32") == KEY
    wide = np.zeros((5, 12), np.uint8)
    wide[:, ::2] = PIXELS
    assert EmbeddingKey.of_slice(wide[:, ::2], "encoder", "v1", "fp32") == KEY


def test_fields_that_join_to_the_same_text_have_other_digests():
    assert replace(KEY, preprocessing="v", precision="1fp32").digest != KEY.digest


def test_a_memory_store_gives_back_what_was_put_and_nothing_else():
    store, embedding = MemoryStore(), Embedding(np.zeros((256, 2, 3), np.float16), (5, 6))
    assert store.get(KEY) is None
    store.put(KEY, embedding)
    store.put(KEY, embedding)
    assert store.get(EmbeddingKey.of_slice(PIXELS.copy(), "encoder", "v1", "fp32")) is embedding
    assert store.get(replace(KEY, precision="bf16")) is None
