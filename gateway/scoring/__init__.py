"""The requests of other scoring servers: TensorFlow Serving, MLflow and SageMaker."""
