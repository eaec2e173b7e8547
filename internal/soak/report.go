package main

import (
	_ "embed"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// about stands before the figures.
//
//go:embed soak.md
var about string

// A report is what a soak found.
type report struct {
	text  string
	plots map[string]string // SVG, by file name
	err   error             // why it did not pass
}

func median(of []float64) float64 {
	if len(of) == 0 {
		return 0
	}
	slices.Sort(of)
	return of[len(of)/2]
}

func (s *soak) report(verified string) report {
	r := report{plots: map[string]string{}}
	var b strings.Builder
	b.WriteString(about)
	fmt.Fprintf(&b, "\n## The last run\n\nA demo kept busy for %v, stopped and killed and started again %d times.\n\n", s.length, s.counts[lives]-1)
	b.WriteString("| what | first tenth | last tenth | most | allowed |\n|---|---|---|---|---|\n")
	verified, _, _ = strings.Cut(verified, "\n") // the rest is for whoever keeps its key and root
	for i, m := range measures {
		first, last, most := s.tenths(i)
		allowed := first*m.times + m.on
		fmt.Fprintf(&b, "| %s | %.1f | %.1f | %.1f | %.1f %s |\n", m.name, first, last, most, allowed, m.unit)
		if last > allowed {
			r.err = errors.Join(r.err, fmt.Errorf("%s grew from %.1f to %.1f %s", m.name, first, last, m.unit))
		}
		r.plots[fmt.Sprintf("soak-%d.svg", i+1)] = s.plot(i)
	}
	fmt.Fprintf(&b, "\nFirst and last tenth are medians, of the last life, which was %v long. Meanwhile there were:\n\n| what | how many |\n|---|---|\n", (s.length - s.last).Round(time.Second))
	for _, what := range slices.Sorted(maps.Keys(s.counts)) {
		fmt.Fprintf(&b, "| %s | %d |\n", what, s.counts[what])
	}
	fmt.Fprintf(&b, "\nThe latest cut came %v after its grant's end or revoke, measured at the client. The record: %s\n", s.latest.Round(time.Millisecond), verified)
	s.afterwards(&b)
	if len(s.errs) > 0 {
		b.WriteString("\nWhat workers met that they did not expect:\n\n")
		for _, what := range slices.Sorted(maps.Keys(s.errs)) {
			fmt.Fprintf(&b, "- %d times, first after %v: %s\n", s.errs[what].times, s.errs[what].first.Round(time.Second), what)
		}
		r.err = errors.Join(r.err, fmt.Errorf("workers met %d kinds of errors", len(s.errs)))
	}
	for i := range measures {
		fmt.Fprintf(&b, "\n![%s](soak-%d.svg)\n", measures[i].name, i+1)
	}
	r.text = b.String()
	return r
}

// afterwards says what the crowds and the kills did.
func (s *soak) afterwards(b *strings.Builder) {
	b.WriteString("\n| a crowd before the gate | how many | there after | a session by token meanwhile, at the most | memory of the gate | all gone after |\n|---|---|---|---|---|---|\n")
	for _, w := range s.crowded {
		fmt.Fprintf(b, "| %s | %d | %.1f s | %.1f s | %+.0f MiB | %.1f s |\n", w.name, w.people, w.took.Seconds(), w.longest.Seconds(), w.memory, w.left.Seconds())
	}
	fmt.Fprintf(b, "\nKilled by kill -9 at %d random points under the same load: the record verified after each, and of %d acknowledged outcomes of requests that were looked for %d were lost. The slowest start after one took %.1f s, database and all.\n",
		s.kills.rounds, s.kills.acknowledged, s.kills.lost, s.kills.latest.Seconds())
}

// tenths are the medians of the first and the last tenth of the last life, and the most of
// all.
func (s *soak) tenths(i int) (first, last, most float64) {
	var begin, end []float64
	tenth := (s.length - s.last) / 10
	for _, one := range s.samples {
		switch v := one.values[i]; {
		case one.at >= s.last && one.at <= s.last+tenth+10*time.Second:
			begin = append(begin, v)
		case one.at >= s.length-tenth:
			end = append(end, v)
		}
		most = max(most, one.values[i])
	}
	return median(begin), median(end), most
}

// plot draws one measure over time.
func (s *soak) plot(i int) string {
	const width, height, edge = 720, 200, 40
	_, _, most := s.tenths(i)
	most = max(most, 1)
	var points strings.Builder
	for _, one := range s.samples {
		x := edge + (width-2*edge)*one.at.Seconds()/s.length.Seconds()
		y := height - edge - (height-2*edge)*one.values[i]/most
		fmt.Fprintf(&points, "%.1f,%.1f ", x, y)
	}
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">
<rect width="100%%" height="100%%" fill="#fff"/>
<path d="M%d %dH%dM%d %dV%d" stroke="#999"/>
<text x="%d" y="20">%s</text><text x="4" y="%d">%.0f %s</text><text x="4" y="%d">0</text><text x="%d" y="%d">%v</text>
<polyline points="%s" fill="none" stroke="#0b5fff"/>
</svg>
`, width, height, edge, height-edge, width-edge, edge, edge, height-edge,
		edge, measures[i].name, edge+4, most, measures[i].unit, height-edge, width-edge-20, height-edge+16, s.length, strings.TrimSpace(points.String()))
}

func (r report) write(docs string) error {
	if err := os.WriteFile(filepath.Join(docs, "soak.md"), []byte(r.text), 0o644); err != nil { //nolint:gosec // a page for everybody
		return err
	}
	for name, svg := range r.plots {
		if err := os.WriteFile(filepath.Join(docs, name), []byte(svg), 0o644); err != nil { //nolint:gosec // as above
			return err
		}
	}
	return nil
}
