"""An EPICS IOC of the simulated beamline (caproto): an Xspress3-like detector with HDF5 writer, two motors, I0.

What needs EPICS is imported by :mod:`server` and :mod:`records` only; :mod:`address` says where an IOC is, and what to
install when something is missing.
"""
