export { metricsJob, planMetrics } from './job.ts'
export { measure, measureOne } from './measure.ts'
export { type MeasuredAt, measureSeries } from './measure-series.ts'
export { knownMetrics, type Measure, type MetricQuery, type MetricStat, metricStats, namedMetrics } from './metric-query.ts'
