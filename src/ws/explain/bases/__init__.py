"""Spaces of a model: what they are made of, how they combine, and how much of a direction lies in them."""

from ws.explain.bases.basis import Basis as Basis
from ws.explain.bases.basis import basis as basis
from ws.explain.bases.basis import complement as complement
from ws.explain.bases.basis import cosines as cosines
from ws.explain.bases.basis import intersection as intersection
from ws.explain.bases.basis import overlap as overlap
from ws.explain.bases.basis import union as union
from ws.explain.bases.basis import without as without
from ws.explain.bases.spaces import Spaces as Spaces
