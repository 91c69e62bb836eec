"""The order in which xdist gives tests to its processes."""

from xdist.scheduler import LoadScopeScheduling

ONE_PROCESS = "tests/compose/"
"""Folder whose tests share an engine and its images, which take minutes to build."""


class FolderScheduling(LoadScopeScheduling):
    """Module by module, but one folder is given away as a whole."""

    def _split_scope(self, nodeid: str) -> str:
        return ONE_PROCESS if nodeid.startswith(ONE_PROCESS) else str(super()._split_scope(nodeid))
