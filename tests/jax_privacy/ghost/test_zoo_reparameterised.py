"""Ghost clipping of parameters seen only through others, and complex ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support import zoo

_ARRAYS = zoo.Arrays(12)
_normal, _batch = _ARRAYS.normal, _ARRAYS.batch
_W = _normal(3, 3)


def _case(
    name, loss, params, *, run=zoo.F64, runs=zoo.RUNS, batch=None, **options
):
  batch = (_batch(4, 3),) if batch is None else batch
  return zoo.Case(
      name=name,
      loss=loss,
      params=params,
      batch=batch,
      options=options,
      run=run,
      runs=runs,
  )


def _weight_norm(p, x):
  norm = jnp.sqrt(jnp.sum(p["v"] ** 2, axis=0, keepdims=True))
  return zoo.readout(x @ (p["v"] / norm * p["gain"]))


def _spectral(p, x):
  u = jax.lax.stop_gradient(jnp.ones((3, 1), p["v"].dtype))
  for _ in range(3):
    u = p["v"] @ (p["v"].T @ u)
    u = u / jnp.sqrt(jnp.sum(u**2))
  sigma = jnp.sqrt(jnp.sum((p["v"].T @ u) ** 2))
  return zoo.readout(x @ (p["v"] / sigma) * p["gain"].reshape(()))


def _hypernetwork(p, x):
  w = jnp.tanh(p["gain"] @ p["v"]).reshape(3, -1)
  return zoo.readout(x @ w)


_GAINED = {"v": _normal(3, 3), "gain": 1 + 0.1 * _normal(1, 3)}


@pytest.mark.few(2)
@pytest.mark.parametrize(
    "case",
    [
        _case(
            "gain_times_weight",
            lambda p, x: zoo.readout(x @ (p["v"] * p["gain"])),
            _GAINED,
            runs=zoo.NOT_JITTED,
            run=zoo.F32,
        ),
        _case(
            "weight_norm",
            _weight_norm,
            _GAINED,
            runs=zoo.NOT_JITTED,
            run=zoo.EAGER,
        ),
        _case(
            "spectral_norm",
            _spectral,
            {"v": _W, "gain": np.array([[1.5]])},
            run=zoo.F32,
        ),
        _case(
            "product_of_two",
            lambda p, x: zoo.readout(x @ (p["v"] @ jnp.sin(p["v"].T))),
            _GAINED | {"gain": np.zeros((1, 3))},
        ),
        _case(
            "hypernetwork",
            _hypernetwork,
            {"gain": _normal(1, 2), "v": _normal(2, 6)},
        ),
        _case(
            "joined_and_split",
            lambda p, x: zoo.readout(
                jnp.concatenate([p["v"], p["gain"]])[:3]
                @ jnp.concatenate([x.reshape(4, 3).T, x.reshape(4, 3).T], 1)
            ),
            _GAINED,
            keep_batch_dim=False,
        ),
        _case(
            "scalars",
            lambda p, x: p["a"] * zoo.readout(x * jnp.exp(p["t"])) + p["b"],
            {"a": np.float64(0.5), "b": np.float64(2.0), "t": np.float64(0.1)},
            runs=zoo.NOT_JITTED,
            run=zoo.F32,
        ),
        _case(
            "a_scalar_alone",
            lambda a, x: zoo.readout(a * x),
            np.float64(0.7),
            keep_batch_dim=False,
        ),
        _case(
            "one_parameter_as_a_scalar_and_a_vector",
            lambda p, x: zoo.readout(x * p[:1].reshape(1, 1) + p.reshape(1, 3)),
            _normal(3),
            keep_batch_dim=False,
        ),
        _case(
            "triangular_solve",
            lambda p, x: zoo.readout(
                jax.scipy.linalg.solve_triangular(
                    p + 3 * jnp.eye(3, dtype=p.dtype),
                    x.reshape(4, 3).T,
                    lower=True,
                )
            ),
            _W,
        ),
        _case(
            "sorted_and_scattered",
            lambda p, x: zoo.readout(
                x @ jnp.zeros((3, 3), p.dtype).at[::2].set(jnp.sort(p)[:2])
            ),
            _W,
        ),
    ],
    ids=str,
)
def test_seen_through_another(case):
  zoo.check(case)


def _spectrum(params, x):
  """A filter in the frequency domain, of complex weights made from real."""
  spectrum = jnp.fft.rfft(x, axis=-2) * jax.lax.complex(
      params["re"], params["im"]
  ).reshape((1,) * (x.ndim - 2) + (3, 3))
  return zoo.readout(jnp.fft.irfft(spectrum, axis=-2))


def _complex_dense(params, x):
  w = jax.lax.complex(params["re"], params["im"])
  y = jax.lax.complex(x, jnp.cos(x)) @ w
  return zoo.readout(jnp.abs(y) ** 2) + jnp.sum(y.imag)


_COMPLEX = {"re": _normal(3, 3), "im": _normal(3, 3)}


@pytest.mark.few(3)
@pytest.mark.parametrize(
    "case",
    [
        *zoo.both(
            name="spectrum",
            loss=_spectrum,
            params=_COMPLEX,
            batch=(_batch(4, 3),),
        ),
        _case(
            "complex_dense",
            _complex_dense,
            _COMPLEX,
            runs=zoo.NOT_JITTED,
            run=zoo.F32,
        ),
        _case(
            "fft_of_a_weight",
            lambda w, x: zoo.readout(
                jnp.abs(jax.lax.complex(x, jnp.cos(x)) @ jnp.fft.fft(0.2 * w))
            ),
            _W,
            run=zoo.F32,
        ),
        _case(
            "complex_data",
            lambda w, x: zoo.readout((x @ w.astype(x.dtype)).real),
            _W,
            batch=(_batch(4, 3) + 1j * _batch(4, 3),),
        ),
    ],
    ids=str,
)
def test_complex(case):
  zoo.check(case)
