package main

import (
	"debug/dwarf"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"os"
	"sync"
	"syscall"
)

// inside reads from a program of Go, as it runs, what only its runtime knows: how many
// goroutines there were at once at the most, since each is kept for the next in the list
// whose length is runtime.allglen (runtime/proc.go); and the MiB that the collector last
// found in use, gcController.heapMarked (runtime/mgcpacer.go).
func inside(pid int) (goroutines, heap float64, err error) {
	at, err := placesIn(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return 0, 0, err
	}
	memory, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		return 0, 0, err
	}
	defer memory.Close() //nolint:errcheck // only read
	var read [2]float64
	for i, place := range at {
		n := make([]byte, 8)
		if _, err := memory.ReadAt(n, place); err != nil {
			return 0, 0, fmt.Errorf("read the runtime's own: %w", err)
		}
		read[i] = float64(binary.NativeEndian.Uint64(n))
	}
	return read[0], read[1] / (1 << 20), nil
}

// places are the addresses of runtime.allglen and of heapMarked.
type places [2]int64

var known sync.Map // places, by the program's inode: every life has the same

func placesIn(exe string) (places, error) {
	info, err := os.Stat(exe)
	if err != nil {
		return places{}, err
	}
	inode := info.Sys().(*syscall.Stat_t).Ino //nolint:forcetypeassert // on Linux, where /proc is
	if at, ok := known.Load(inode); ok {
		return at.(places), nil //nolint:forcetypeassert // stored below
	}
	program, err := elf.Open(exe)
	if err != nil {
		return places{}, err
	}
	defer program.Close() //nolint:errcheck // only read
	symbols, err := program.Symbols()
	if err != nil {
		return places{}, err
	}
	types, err := program.DWARF()
	if err != nil {
		return places{}, err
	}
	offset, err := offsetOf(types, "runtime.gcControllerState", "heapMarked")
	if err != nil {
		return places{}, err
	}
	var at places
	for _, s := range symbols {
		switch s.Name {
		case "runtime.allglen":
			at[0] = int64(s.Value) //nolint:gosec // an address of a program
		case "runtime.gcController":
			at[1] = int64(s.Value) + offset //nolint:gosec // as above
		}
	}
	if at[0] == 0 || at[1] == 0 {
		return places{}, fmt.Errorf("%s has no symbols of the runtime: build it with them", exe)
	}
	known.Store(inode, at)
	return at, nil
}

// offsetOf is where in a structure of the runtime's a field begins, in bytes.
func offsetOf(types *dwarf.Data, structure, field string) (int64, error) {
	r := types.Reader()
	for {
		e, err := r.Next()
		if err != nil || e == nil {
			return 0, fmt.Errorf("no %s.%s in the program's debugging information: %w", structure, field, err)
		}
		name, _ := e.Val(dwarf.AttrName).(string)
		switch {
		case e.Tag == dwarf.TagCompileUnit && name != "runtime":
			r.SkipChildren()
		case e.Tag == dwarf.TagStructType && name == structure:
			return fieldOf(types, e.Offset, field)
		}
	}
}

func fieldOf(types *dwarf.Data, structure dwarf.Offset, field string) (int64, error) {
	t, err := types.Type(structure)
	if err != nil {
		return 0, err
	}
	if s, ok := t.(*dwarf.StructType); ok {
		for _, f := range s.Field {
			if f.Name == field {
				return f.ByteOffset, nil
			}
		}
	}
	return 0, fmt.Errorf("%v has no field %s", t, field)
}
