package akigw

// DiskOp is something that is done to a disk, by its usual name.
type DiskOp string

// What is done to disks. DiskFree asks how much room there is.
const (
	DiskMkdir   DiskOp = "mkdir"
	DiskCreate  DiskOp = "create"
	DiskOpen    DiskOp = "open"
	DiskRead    DiskOp = "read"
	DiskWrite   DiskOp = "write"
	DiskSync    DiskOp = "sync"
	DiskSyncDir DiskOp = "sync_dir"
	DiskRename  DiskOp = "rename"
	DiskRemove  DiskOp = "remove"
	DiskList    DiskOp = "list"
	DiskFree    DiskOp = "free"
)

// DiskOps are all of them.
func DiskOps() []DiskOp {
	return []DiskOp{DiskMkdir, DiskCreate, DiskOpen, DiskRead, DiskWrite, DiskSync, DiskSyncDir, DiskRename, DiskRemove, DiskList, DiskFree}
}

// DiskFault is asked before something is done to a disk: to a file by its path, or to a value
// by what it is stored under; size is how many bytes a write has. With an error nothing is done
// but, of a write, the first done bytes of it. It may take its time. Any goroutine may call it.
type DiskFault func(op DiskOp, name string, size int) (done int, err error)
