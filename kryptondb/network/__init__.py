"""A CNN as a graph of spatial operators: tracing, geometry, FLOPs. This room knows no query."""

from kryptondb.network.graph import Network, Tail
from kryptondb.network.grid import Grid
from kryptondb.network.node import Axes, AxisWindow, Node, Rule, Window
from kryptondb.network.regions import UNCAPPED, Cap
from kryptondb.network.trace import trace

__all__ = ["UNCAPPED", "Axes", "AxisWindow", "Cap", "Grid", "Network", "Node", "Rule", "Tail", "Window", "trace"]
