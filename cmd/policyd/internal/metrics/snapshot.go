package metrics

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/policyd/policyd/cmd/policyd/internal/admin"
)

// snapshot collects what is read from one admin.Status.
type snapshot struct {
	status func() admin.Status
}

// read is a metric as a function of the status: of its value, or of values by label.
type read struct {
	name, help string
	kind       prometheus.ValueType
	value      func(st *admin.Status) float64
	label      string
	known      []string // the values of label; what is not among them counts as other
	values     func(st *admin.Status) map[string]uint64
}

func (r read) desc() *prometheus.Desc {
	var labels []string
	if r.label != "" {
		labels = []string{r.label}
	}
	return prometheus.NewDesc(namespace+"_"+r.name, r.help, labels, nil)
}

// Describe implements prometheus.Collector.
func (s *snapshot) Describe(ch chan<- *prometheus.Desc) {
	for _, r := range reads() {
		ch <- r.desc()
	}
}

// Collect implements prometheus.Collector.
func (s *snapshot) Collect(ch chan<- prometheus.Metric) {
	st := s.status()
	for _, r := range reads() {
		if r.label == "" {
			ch <- prometheus.MustNewConstMetric(r.desc(), r.kind, r.value(&st))
			continue
		}
		values, rest := r.values(&st), uint64(0)
		for v, n := range values {
			if !slices.Contains(r.known, v) {
				rest += n
			}
		}
		for _, v := range r.known {
			ch <- prometheus.MustNewConstMetric(r.desc(), r.kind, float64(values[v]), v)
		}
		if rest > 0 {
			ch <- prometheus.MustNewConstMetric(r.desc(), r.kind, float64(rest), other)
		}
	}
}

func one(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
