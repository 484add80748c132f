"""Similarities revised after the test against hubs, which are retrieved for too many queries: dual softmax and QB-Norm.

Both take rows of queries and columns of candidates, `similarity` ``[Q, C]``: for text to video ``[texts, videos]``, for
video to text its transpose. `centerclip_pl.retrieval.ranks` ranks the results, those of the latter transposed back.

Results are *transductive*: a query's ranks depend on more than the query and the candidates. Dual softmax looks at all
other queries of the test, which a search engine that gets one query at a time has not. QB-Norm looks at queries of the
training set only. Neither may be compared with plain ranks.

Everything is computed in float64: in float32 the small softmaxes of candidates far down would be equal, and tie. Pass
tensors on a device that has float64, such as the CPU. Equal columns give equal results, so that copies of a video tie
as they did before.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from centerclip_pl.errors import ConfigError, NonFiniteError


@torch.no_grad()
def dual_softmax(similarity: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Each similarity times a prior, the softmax over all queries for its candidate (CAMoE, arXiv 2109.04290).

    ::

        revised[q, c] = similarity[q, c] * exp(similarity[q, c] / temperature)
                                         / sum over queries q' of exp(similarity[q', c] / temperature)

    A candidate that many queries like has its prior shared out among them. The paper's training multiplies by the same
    prior; this is what it does at inference. The product means what it should for positive similarities only: a
    negative one with a small prior comes out above one with a large prior.

    Memory: about 24 bytes for each pair of query and candidate, beside the input (0.6 GB for 5,000 x 5,000).

    Args:
        similarity: ``[Q, C]``. Whatever it is multiplied by makes the softmax as much sharper: CLIP's logits, which are
            cosines times exp(logit scale) (up to 100), go with a temperature of 1, so that the prior is the probability
            that the model itself gives; cosines go with exp(-logit scale).
        temperature: divides the similarities in the softmax; above 0. Large: the prior is the same everywhere, and the
            ranks are those of `similarity`.

    Returns:
        float64 ``[Q, C]``.

    Raises:
        ConfigError: no matrix, an empty one, or a temperature that cannot be.
        NonFiniteError: NaN or infinity among the similarities.
    """
    require_positive_number("temperature", temperature)
    scores = _checked(similarity, "query")
    # Reduced along rows that lie in one piece: the sum of a row does not depend on where in the matrix it stands.
    by_candidate = (scores / temperature).mT.contiguous()  # (C, Q)
    by_candidate -= by_candidate.logsumexp(dim=1, keepdim=True)
    return by_candidate.exp_().mT * scores


class QueryBank(NamedTuple):
    """What QB-Norm needs to know of a bank of queries; banks in parts are put together with `combine`."""

    log_sum: Tensor
    """float64 ``[C]``: log of the sum over the bank of ``exp(beta * similarity)`` with each candidate."""
    active: Tensor
    """bool ``[C]``: whether the candidate is among the k best of any query of the bank (the "activation set")."""

    @classmethod
    def empty(cls, candidates: int) -> QueryBank:
        """A bank of no queries, for `candidates` candidates."""
        return cls(torch.full((candidates,), -math.inf, dtype=torch.float64), torch.zeros(candidates, dtype=torch.bool))

    @classmethod
    @torch.no_grad()
    def of(cls, bank_similarity: Tensor, *, beta: float, k: int = 1) -> QueryBank:
        """A bank, or a part of one.

        Args:
            bank_similarity: ``[B, C]``: queries of the bank by *all* candidates; finite, with at least one row.
            beta: the inverse temperature, above 0.
            k: how many candidates of each query are active, those that tie with the last one included.

        Raises:
            ConfigError: shapes or numbers that cannot be.
            NonFiniteError: NaN or infinity among the similarities.
        """
        require_positive_number("beta", beta)
        if k < 1:
            raise ConfigError(f"k is {k}, but must be at least 1")
        scores = _checked(bank_similarity, "query of the bank")
        last = scores.topk(min(k, scores.shape[1]), dim=1).values[:, -1:]  # (B, 1)
        log_sum = (beta * scores).mT.contiguous().logsumexp(dim=1)
        return cls(log_sum, (scores >= last).any(dim=0))

    def combine(self, other: QueryBank) -> QueryBank:
        """The bank with the queries of both, of the same candidates, beta and k."""
        if self.log_sum.shape != other.log_sum.shape:
            raise ConfigError(
                f"banks for {len(self.log_sum)} and {len(other.log_sum)} candidates cannot be put together",
                "compare all parts of a bank with the same candidates",
            )
        return QueryBank(torch.logaddexp(self.log_sum, other.log_sum), self.active | other.active)


@torch.no_grad()
def qb_norm(similarity: Tensor, bank: Tensor | QueryBank, *, beta: float, k: int = 1) -> Tensor:
    """Querybank normalisation by the dynamic inverted softmax (Bogolin et al., CVPR 2022, arXiv 2112.12777).

    The bank holds queries of the training set. For a query whose best candidate is active, that is among the k best of
    any query of the bank,

    ::

        revised[q, c] = exp(beta * similarity[q, c]) / sum over the bank's queries b of exp(beta * bank[b, c])

    and for the others the similarity itself. Here the logarithm of the former is returned, which overflows for no beta;
    **only scores of one query can be compared with each other**, which is all that ranks need. Of several best
    candidates that tie, any active one counts, so that nothing depends on their order.

    Memory: about 24 bytes for each pair of query and candidate, and of the bank's queries with each candidate, unless
    the bank comes as a `QueryBank`, which can be put together in parts.

    Args:
        similarity: ``[Q, C]``.
        bank: ``[B, C]``, the bank's similarities with the same candidates, of the same scale; or what is known of it.
        beta: the inverse temperature, which multiplies the similarities; above 0. The authors report 20 for cosines:
            for logits that is 20 / exp(logit scale).
        k: see `QueryBank.of`; the paper takes 1. Not used where the bank comes as a `QueryBank`.

    Returns:
        float64 ``[Q, C]``.

    Raises:
        ConfigError: shapes or numbers that cannot be, or a bank without queries.
        NonFiniteError: NaN or infinity among the similarities.
    """
    require_positive_number("beta", beta)
    scores = _checked(similarity, "query")
    if isinstance(bank, Tensor):
        bank = QueryBank.of(bank, beta=beta, k=k)
    log_sum, active = bank.log_sum.to(scores.device), bank.active.to(scores.device)
    if log_sum.shape != scores.shape[1:]:
        raise ConfigError(
            f"the bank was compared with {len(log_sum)} candidates, the queries with {scores.shape[1]}",
            "compare both with the same candidates, in the same order",
        )
    if bool(log_sum.isneginf().any()):
        raise ConfigError("the bank holds no queries", "take some from the training set")
    best = scores.amax(dim=1, keepdim=True)
    hubs = ((scores == best) & active).any(dim=1, keepdim=True)  # (Q, 1)
    return torch.where(hubs, beta * scores - log_sum, scores)


def require_positive_number(name: str, value: float) -> None:
    """
    Raises:
        ConfigError: the value is not positive, or infinite, or NaN.
    """
    if not 0 < value < math.inf:
        raise ConfigError(f"{name} is {value}, but must be a positive number")


def _checked(similarity: Tensor, row: str) -> Tensor:
    """In float64."""
    if similarity.ndim != 2 or similarity.numel() == 0 or similarity.is_complex():
        raise ConfigError(
            f"a similarity of shape {list(similarity.shape)} and dtype {similarity.dtype} cannot be revised",
            "pass a real matrix [queries, candidates] with at least one of each",
        )
    bad = ~similarity.isfinite()
    if bad.any():
        query, candidate = bad.nonzero()[0].tolist()
        raise NonFiniteError(
            f"the similarity of {row} {query} and candidate {candidate} is {similarity[query, candidate].item()}",
            "check the embeddings of both, and the checkpoint",
        )
    return similarity.double()
