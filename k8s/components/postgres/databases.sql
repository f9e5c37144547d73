-- PostgreSQL's image makes `mlflow` by itself; this one holds MLflow's accounts.
CREATE DATABASE mlflow_auth;
