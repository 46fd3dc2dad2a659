package main

import (
	"fmt"
	"image/color"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
)

const width, height = 14 * vg.Centimeter, 8 * vg.Centimeter

// plots by the names of their files.
var plots = map[string]func(*results) (*plot.Plot, error){
	"cpu":    drawCPU,
	"sample": drawSample,
	"start":  drawStart,
}

func newPlot(title, y string) *plot.Plot {
	p := plot.New()
	p.BackgroundColor = color.White
	p.Title.Text = title
	p.Y.Label.Text = y
	p.Title.Padding = 3 * vg.Millimeter
	p.Legend.Top, p.Legend.Left, p.Legend.Padding = true, true, vg.Millimeter
	return p
}

// drawCPU shows the processor time of idle tasks, with the parts of each approach on each other.
func drawCPU(r *results) (*plot.Plot, error) {
	p := newPlot("50 idle tasks", "CPU seconds a minute")
	var below *plotter.BarChart
	for i, part := range []struct {
		legend, benchmark, unit string
		bar                     int
	}{
		{"driver", "Tasks/idle/with=driver", "driver-cpu-s/min", 0},
		{"log process", "Tasks/idle/with=driver", "logs-cpu-s/min", 0},
		{"poller", "Tasks/idle/with=polling", "poller-cpu-s/min", 1},
		{"podman's service", "Tasks/idle/with=polling", "podman-cpu-s/min", 1},
	} {
		value, err := r.value(part.benchmark, part.unit)
		if err != nil {
			return nil, err
		}
		values := plotter.Values{0, 0}
		values[part.bar] = value
		bars, err := newBars(values, i)
		if err != nil {
			return nil, err
		}
		if below != nil {
			bars.StackOn(below)
		}
		below = bars
		p.Add(bars)
		p.Legend.Add(part.legend, bars)
	}
	nameBars(p, "this driver", "polling")
	return p, nil
}

// drawStart shows how long it takes until one and until twenty containers run.
func drawStart(r *results) (*plot.Plot, error) {
	p := newPlot("Start", "seconds until all run")
	for i, with := range []struct{ legend, name string }{{"a job with this driver", "driver"}, {"podman run", "podman-run"}} {
		var values plotter.Values
		for _, tasks := range []int{1, 20} {
			value, err := r.value(fmt.Sprintf("Start/tasks=%d/with=%s", tasks, with.name), "sec/op")
			if err != nil {
				return nil, err
			}
			values = append(values, value)
		}
		bars, err := newBars(values, i)
		if err != nil {
			return nil, err
		}
		bars.Offset = (vg.Length(i) - 0.5) * bars.Width
		p.Add(bars)
		p.Legend.Add(with.legend, bars)
	}
	nameBars(p, "one", "20 at once")
	return p, nil
}

// nameBars names what stands at 0 and 1 of the X axis, and makes room around it.
func nameBars(p *plot.Plot, names ...string) {
	p.NominalX(names...)
	p.X.Min, p.X.Max = -0.6, float64(len(names))-0.4
}

func newBars(values plotter.Values, nth int) (*plotter.BarChart, error) {
	bars, err := plotter.NewBarChart(values, 2*vg.Centimeter)
	if err != nil {
		return nil, err
	}
	bars.Color = plotutil.Color(nth)
	bars.LineStyle.Width = 0
	return bars, nil
}

// drawSample shows how the cost of samples grows with the number of tasks.
func drawSample(r *results) (*plot.Plot, error) {
	p := newPlot("A stats sample of every task", "CPU milliseconds")
	p.X.Label.Text = "tasks"
	p.X.Scale, p.Y.Scale = plot.LogScale{}, plot.LogScale{}
	p.X.Tick.Marker, p.Y.Tick.Marker = plot.LogTicks{Prec: -1}, plot.LogTicks{Prec: -1}
	for i, with := range []struct{ legend, name string }{{"this driver", "driver"}, {"containerd/cgroups", "containerd"}} {
		var points plotter.XYs
		for _, cgroups := range []int{1, 50, 500} {
			cost, err := r.value(fmt.Sprintf("Sample/cgroups=%d/with=%s", cgroups, with.name), "cpu-sec/sample")
			if err != nil {
				return nil, err
			}
			points = append(points, plotter.XY{X: float64(cgroups), Y: 1000 * cost * float64(cgroups)})
		}
		line, marks, err := plotter.NewLinePoints(points)
		if err != nil {
			return nil, err
		}
		line.Color, marks.Color = plotutil.Color(i), plotutil.Color(i)
		marks.Shape = plotutil.Shape(i)
		p.Add(line, marks)
		p.Legend.Add(with.legend, line, marks)
	}
	return p, nil
}
